"""`kedro kubeflow …`. Only click is imported until a command runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kedro_kfp.command_group import Refusing

if TYPE_CHECKING:
    from kedro.framework.startup import ProjectMetadata

    from kedro_kfp.compiled import Compiled
    from kedro_kfp.project import Project

DEFAULT_FILE = Path("kubeflow/pipeline.yaml")


@click.group(name="kedro-kfp")
def commands() -> None:
    """Commands for Kubeflow."""


@commands.group(cls=Refusing)
def kubeflow() -> None:
    """Run this project's pipelines on Kubeflow Pipelines v2."""


_env = click.option("--env", "-e", help="Kedro environment: of kubeflow.yml, and that steps run in.")
_params = click.option(
    "--params", help="Parameters over the compiled file's and the environment's: a JSON object, or a file with one."
)
_dry = click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")
_strict = click.option("--strict", is_flag=True, help="A check whose package is not installed is an error.")
_file = click.argument("file", type=click.Path(path_type=Path), default=DEFAULT_FILE)
_pipeline = click.option("--pipeline", "-p", default="__default__", show_default=True, help="A registered pipeline.")
_image = click.option("--image", help="The image, over that of kubeflow.yml.")
_name = click.option("--name", help="The name that Kubeflow shows, over that of kubeflow.yml.")


def _project(metadata: ProjectMetadata, env: str | None, params: str | None = None, **rest: Any) -> Project:
    from kedro_kfp.parameters import read_params
    from kedro_kfp.project import read_project

    return read_project(metadata.project_path, env, runtime_params=read_params(params), **rest)


def _arguments(compiled: Compiled, env: str | None, params: str | None) -> dict[str, str]:
    """The compiled pipeline's inputs where the command line says them: parameters lie over those of the file."""
    from kedro_kfp.parameters import laid_over, read_params

    given = {}
    if params is not None:
        given["params"] = json.dumps(laid_over(compiled.params(), read_params(params)), sort_keys=True)
    return {**given, "env": env} if env else given


@kubeflow.command()
@click.option("--env", "-e", default="cluster", show_default=True, help="The environment that runs on Kubeflow.")
@click.option("--with-github-actions", is_flag=True, help="Also a workflow that compiles and validates.")
@click.pass_obj
def init(metadata: ProjectMetadata, env: str, with_github_actions: bool) -> None:
    """Write a commented kubeflow.yml for this project; files that are there stay."""
    from kedro.framework.project import settings

    from kedro_kfp.start import write_first_files

    project, package = metadata.project_path, metadata.package_name
    for file in write_first_files(project, settings.CONF_SOURCE, package, env, with_github_actions):
        click.echo(f"{file.relative_to(project)} is written. Next: read it, and change what is yours.")


@kubeflow.command("compile")
@_env
@_pipeline
@_params
@_image
@click.option("--output", "-o", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True)
@_dry
@click.pass_obj
def compile_command(
    metadata: ProjectMetadata,
    env: str | None,
    pipeline: str,
    params: str | None,
    image: str | None,
    output: Path,
    dry_run: bool,
) -> None:
    """Write a pipeline as one file that Kubeflow runs; --dry-run prints its steps."""
    from kedro_kfp.emit import compile_plan
    from kedro_kfp.parameters import read_params

    project = _project(metadata, env, params, pipeline_name=pipeline, image=image, shell=os.environ)
    plan = project.plan()
    if dry_run:
        click.echo(plan.describe())
        return
    compile_plan(plan, project.settings, project.env, output, read_params(params))
    click.echo(f"{output}: {len(plan.steps)} steps, {output.stat().st_size} bytes")


@kubeflow.command()
@_file
@_strict
def validate(file: Path, strict: bool) -> None:
    """Check a compiled file without a cluster."""
    from kedro_kfp.validate import validate as check

    checks = check(file, strict)
    for one in checks.done:
        click.echo(one)
    for one in checks.left_out:
        click.echo(f"NOT checked: {one}", err=True)
    click.echo(f"{file} is sound" + (" as far as it was checked" if checks.left_out else ""))


@kubeflow.command()
@_file
@click.option("--env", "-e", help="Kedro environment of the steps, over the file's own.")
@_params
@click.pass_obj
def local(metadata: ProjectMetadata, file: Path, env: str | None, params: str | None) -> None:
    """Run a compiled file on this machine, every step a process of its own, without Docker."""
    from kedro_kfp.compiled import read_compiled
    from kedro_kfp.local import run_locally

    run_locally(file, metadata.project_path, _arguments(read_compiled(file), env, params))
    click.echo(f"{file} ran to its end")


@kubeflow.command()
@_file
@_env
@click.option("--version", help="The version's name; by default after the file's content.")
@_dry
@click.pass_obj
def upload(metadata: ProjectMetadata, file: Path, env: str | None, version: str | None, dry_run: bool) -> None:
    """Store a compiled file in Kubeflow, as a version of its pipeline."""
    from kedro_kfp.cluster import Cluster, content_version
    from kedro_kfp.compiled import read_compiled

    settings, compiled = _project(metadata, env).settings, read_compiled(file)
    if dry_run:
        _show(pipeline=compiled.name, version=version or content_version(file), host=settings.client.host)
        return
    pipeline, stored, new = Cluster(settings).upload(compiled, version)
    click.echo(f"pipeline {pipeline}, version {stored}{'' if new else ' (it was there already)'}")


@kubeflow.command("run-once")
@_file
@_env
@_params
@_name
@click.option(
    "--wait", is_flag=True, help="Wait for the end: 0 if the run succeeds, else 1, and 3 where it goes on unseen."
)
@click.option("--timeout", type=float, default=86400, show_default=True, help="Seconds to wait.")
@_dry
@click.pass_obj
def run_once(
    metadata: ProjectMetadata,
    file: Path,
    env: str | None,
    params: str | None,
    name: str | None,
    wait: bool,
    timeout: float,
    dry_run: bool,
) -> None:
    """Start one run of a compiled file."""
    from kedro_kfp.cluster import Cluster
    from kedro_kfp.compiled import read_compiled
    from kedro_kfp.errors import RunError
    from kedro_kfp.names import run_name

    settings, compiled = _project(metadata, env, params).settings, read_compiled(file)
    shown = run_name(name or settings.run.name, compiled.name, env or compiled.env)
    arguments = _arguments(compiled, env, params)
    if dry_run:
        _show(run=shown, experiment=settings.run.experiment, inputs=arguments, host=settings.client.host)
        return
    cluster = Cluster(settings)
    run = cluster.start(compiled, shown, arguments)
    click.echo(f"run {run} is started")
    if wait:
        state = cluster.wait(run, timeout)
        click.echo(f"run {run}: {state}")
        if state != "SUCCEEDED":
            raise RunError(
                f"run {run} ended as {state}. Next: kedro kubeflow ui, and read the failing step's last line."
            )


@kubeflow.command()
@_file
@click.option("--cron", required=True, help="When: five fields, or six with seconds first.")
@_env
@_params
@_name
@click.option("--replace", is_flag=True, help="Take the place of a schedule of this name.")
@_dry
@click.pass_obj
def schedule(
    metadata: ProjectMetadata,
    file: Path,
    cron: str,
    env: str | None,
    params: str | None,
    name: str | None,
    replace: bool,
    dry_run: bool,
) -> None:
    """Run a compiled file again and again, one run at a time."""
    from kedro_kfp.cluster import Cluster, six_fields
    from kedro_kfp.compiled import read_compiled
    from kedro_kfp.names import schedule_name

    settings, compiled, times = _project(metadata, env, params).settings, read_compiled(file), six_fields(cron)
    shown = schedule_name(name or settings.run.schedule_name, compiled.name, env or compiled.env)
    arguments = _arguments(compiled, env, params)
    if dry_run:
        _show(schedule=shown, cron=times, experiment=settings.run.experiment, inputs=arguments)
        return
    made, old = Cluster(settings).schedule(compiled, shown, times, arguments, replace)
    click.echo(f"schedule {made}: {times}" + (f", in place of {', '.join(old)}" if old else ""))


@kubeflow.command()
@_env
@_pipeline
@_params
@_image
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path("kubeflow/katib.yaml"), show_default=True)
@_strict
@_dry
@click.pass_obj
def katib(
    metadata: ProjectMetadata,
    env: str | None,
    pipeline: str,
    params: str | None,
    image: str | None,
    output: Path,
    strict: bool,
    dry_run: bool,
) -> None:
    """Write a Katib Experiment that searches parameters with TPE, one trial a pod; --dry-run prints it."""
    from kedro_kfp.katib import checked_experiment, write_experiment
    from kedro_kfp.parameters import read_params

    project = _project(metadata, env, params, pipeline_name=pipeline, image=image, shell=os.environ)
    if dry_run:
        click.echo(checked_experiment(project, read_params(params), strict)[0], nl=False)
        return
    checked = write_experiment(project, read_params(params), output, strict)
    click.echo(f"{output}: {checked}. Next: kubectl apply -f {output}")


@kubeflow.command("list")
@click.argument("what", type=click.Choice(["pipelines", "runs", "schedules"]), default="pipelines")
@_env
@click.pass_obj
def list_command(metadata: ProjectMetadata, what: str, env: str | None) -> None:
    """Pipelines, runs or schedules in Kubeflow: id, name, state, separated by tabs."""
    from kedro_kfp.cluster import Cluster

    for line in Cluster(_project(metadata, env).settings).listing(what):
        click.echo("\t".join(line))


@kubeflow.command()
@_env
@_dry
@click.pass_obj
def ui(metadata: ProjectMetadata, env: str | None, dry_run: bool) -> None:
    """Open Kubeflow's pages; --dry-run prints their address."""
    from kedro_kfp.cluster import ui_address

    address = ui_address(_project(metadata, env).settings.client)
    click.echo(address)
    if not dry_run:
        click.launch(address)


def _show(**what: Any) -> None:
    click.echo(json.dumps(what, indent=1))
