"""From a plan to the file that Kubeflow runs, through kfp's public API: one container component a step.

A component's command is `python3 -m kedro_kfp.step` with flags. A value known only at run time is an argument of
its own, because the cluster's launcher replaces placeholders and cannot join text (kubeflow/pipelines#9486). The
launcher knows inputs and outputs only: what Kubeflow knows of the run itself, such as its id, is the value of an input,
where the driver puts it in.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kedro_kfp.extra import kfp_module
from kedro_kfp.plan import Plan, Step
from kedro_kfp.pods import dress
from kedro_kfp.settings import KubeflowSettings

_EXECUTOR_INPUT = "{{$}}"  # kfp's placeholder for all inputs and outputs of a task as JSON
_RUN = "run"  # the input that carries the run's id


def compile_plan(
    plan: Plan, settings: KubeflowSettings, env: str, output: Path, params: Mapping[str, Any] | None = None
) -> None:
    """Write the compiled pipeline to `output`, whole or not at all.

    `env` and `params` are the defaults of the pipeline's two inputs: the Kedro environment, and parameters over those
    of the environment, as JSON text (a number stays as written, which KFP's own dictionaries do not promise).
    """
    compiler = kfp_module("kfp.compiler", "compiling")
    pipeline = _pipeline(plan, settings, env, json.dumps(dict(params or {}), sort_keys=True))
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        written = Path(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline, str(written))
        written.replace(output)


def _pipeline(plan: Plan, settings: KubeflowSettings, env: str, params: str) -> Any:
    from kfp import dsl

    def body(params: str = params, env: str = env) -> None:
        if settings.run.outcome_folder is None:
            _connect(plan, settings, params, env)
            return
        last = _outcome_component(settings)(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        dress(last, "outcome", settings.profiles["default"], settings)
        with dsl.ExitHandler(last):
            _connect(plan, settings, params, env)

    body.__annotations__ = {"params": str, "env": str, "return": None}  # kfp cannot read postponed annotations
    body.__doc__ = settings.description
    config = dsl.PipelineConfig(
        ttl_seconds_after_finished=settings.run.ttl_seconds, active_deadline_seconds=settings.run.deadline_seconds
    )
    return dsl.pipeline(name=settings.name, description=settings.description, pipeline_config=config)(body)


def _connect(plan: Plan, settings: KubeflowSettings, params: Any, env: Any) -> None:
    from kfp import dsl

    done: dict[str, Any] = {}
    given = {"params": params, "env": env}
    if settings.tells_run:
        given[_RUN] = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    for step in plan.steps:
        component = _step_component(plan, step, settings)
        if step.loop is None:
            task = component(**given)
        else:
            items = done[step.loop.source].outputs["items"]
            with dsl.ParallelFor(items, parallelism=step.loop.settings.parallelism) as item:
                task = component(**given, item=item)
        for earlier in step.needs:
            if step.loop is None or earlier != step.loop.source:
                task.after(done[earlier])
        dress(task, step.name, step.profile, settings)
        done[step.name] = task


def _step_component(plan: Plan, step: Step, settings: KubeflowSettings) -> Callable[..., Any]:
    from kfp import dsl

    kinds = {"metrics": dsl.Metrics, "html": dsl.HTML, "markdown": dsl.Markdown}
    shown = {_identifier(dataset): (dataset, artifact) for dataset, artifact in step.artifacts.items()}
    inputs: dict[str, Any] = {"params": str, "env": str}
    if settings.tells_run:
        inputs[_RUN] = str
    if step.loop:
        inputs["item"] = str
    if step.lists:
        inputs["items"] = dsl.OutputPath(list)
    inputs |= {name: dsl.Output[kinds[artifact.kind]] for name, (_, artifact) in shown.items()}

    def command(*values: Any) -> dsl.ContainerSpec:
        given = dict(zip(inputs, values, strict=True))
        flags = [*plan.flags(step), "--env", given["env"], "--params", given["params"]]
        if settings.run.run_id_parameter:
            flags += ["--set", settings.run.run_id_parameter, given[_RUN]]
        if settings.run.outcome_folder:
            flags += ["--outcome", settings.run.outcome_folder, given[_RUN]]
        if step.loop:
            flags += ["--item", step.loop.settings.parameter, given["item"]]
        if step.lists:
            flags += ["--list", step.lists, given["items"]]
        for name, (dataset, artifact) in shown.items():
            if artifact.kind == "metrics":
                flags += ["--metrics", dataset, name, ",".join(artifact.keep)]
            else:
                flags += ["--text", dataset, given[name].path]
        if any(artifact.kind == "metrics" for _, artifact in shown.values()):
            flags += ["--executor-input", _EXECUTOR_INPUT]
        return dsl.ContainerSpec(image=settings.image, command=["python3", "-m", "kedro_kfp.step"], args=flags)

    return _container_component(command, step.name, inputs)


def _outcome_component(settings: KubeflowSettings) -> Callable[..., Any]:
    from kfp import dsl

    def command(run: Any, status: Any) -> dsl.ContainerSpec:
        flags = ["--folder", settings.run.outcome_folder, "--run", run, "--status", status]
        return dsl.ContainerSpec(image=settings.image, command=["python3", "-m", "kedro_kfp.outcome"], args=flags)

    return _container_component(command, "outcome", {_RUN: str, "status": dsl.PipelineTaskFinalStatus})


def _container_component(command: Callable[..., Any], name: str, inputs: Mapping[str, Any]) -> Callable[..., Any]:
    """A component with inputs that are known only now: the public decorator reads them from the signature."""
    from kfp import dsl

    command.__name__ = _identifier(name)
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(one, keyword, annotation=kind) for one, kind in inputs.items()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    component: Callable[..., Any] = dsl.container_component(command)
    return component


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)
