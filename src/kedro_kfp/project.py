"""What is read from a Kedro project: one pipeline, its catalog's configuration, parameters and kubeflow.yml."""

from __future__ import annotations

from collections.abc import Mapping, Set
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from kedro.config import MissingConfigException
from kedro.pipeline import Pipeline

from kedro_kfp.datasets import read_facts
from kedro_kfp.errors import SettingsError
from kedro_kfp.group import group_nodes
from kedro_kfp.parameters import merge_at
from kedro_kfp.plan import Plan, make_plan
from kedro_kfp.settings import KubeflowSettings, read_settings

CONFIG_KEY = "kubeflow"


@dataclass(frozen=True)
class Project:
    """A project in one environment, as the translator needs it."""

    path: Path
    env: str
    runtime_params: Mapping[str, Any]
    pipeline_name: str
    pipeline: Pipeline
    catalog: Mapping[str, Any]
    parameters: Mapping[str, Any]
    settings: KubeflowSettings
    steps: Set[str] = frozenset()
    """Of all registered pipelines, by kubeflow.yml's `group_by`."""

    def plan(self) -> Plan:
        """The pipeline's steps. `PlanError` where it cannot run in pods."""
        stored = (name for name in self.pipeline.datasets() if name != "parameters" and not name.startswith("params:"))
        facts = read_facts(stored, self.catalog)
        return make_plan(self.pipeline_name, self.pipeline, facts, self.settings, self.steps)

    def catalog_of_run(self, run: str) -> Mapping[str, Any]:
        """The catalog's configuration as steps of that run read it. `SettingsError` where runs have no id."""
        from kedro.framework.session import KedroSession

        key = self.settings.run.run_id_parameter
        if key is None:
            raise SettingsError("run.run_id_parameter is not set in kubeflow.yml. Next: set it.")
        params = deepcopy(dict(self.runtime_params))
        merge_at(params, key, run, SettingsError)
        with KedroSession.create(self.path, env=self.env, runtime_params=params) as session:
            loader: Any = cast("KedroSession", session).load_context().config_loader
            return cast("Mapping[str, Any]", loader["catalog"])


def read_project(
    path: Path,
    env: str | None,
    pipeline_name: str = "__default__",
    runtime_params: Mapping[str, Any] | None = None,
    image: str | None = None,
    shell: Mapping[str, str] | None = None,
) -> Project:
    """The project at `path`. An `image` stands over that of kubeflow.yml; a `shell` has what that leaves to it.

    `SettingsError` where kubeflow.yml is missing or cannot be used, or there is no such pipeline.
    """
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(path)
    with KedroSession.create(path, env=env, runtime_params=dict(runtime_params or {})) as session:
        context = cast("KedroSession", session).load_context()
        loader: Any = context.config_loader
        written = _kubeflow_config(loader)
        if pipeline_name not in pipelines:
            raise SettingsError(f"there is no pipeline {pipeline_name!r}; allowed are {sorted(pipelines)}")
        settings = read_settings({**written, "image": image} if image else written)
        return Project(
            path=path,
            runtime_params=dict(runtime_params or {}),
            env=context.env or loader.default_run_env,
            pipeline_name=pipeline_name,
            pipeline=pipelines[pipeline_name],
            catalog=loader["catalog"],
            parameters=_parameters(loader),
            settings=settings if shell is None else settings.with_shell(shell),
            steps={step for known in pipelines.values() for step in group_nodes(known, settings.group_by)[0]},
        )


def _parameters(loader: Any) -> dict[str, Any]:
    """As they are written, with those of the command line: a context would give the models that nodes make of them."""
    try:
        return dict(loader["parameters"])
    except MissingConfigException:
        return {}


def _kubeflow_config(loader: Any) -> dict[str, Any]:
    loader.config_patterns.setdefault(CONFIG_KEY, ["kubeflow*", "kubeflow*/**"])
    try:
        written = dict(loader[CONFIG_KEY])
    except MissingConfigException:
        written = {}
    if not written:
        raise SettingsError(
            f"there is no kubeflow.yml in the environments {loader.base_env!r} and {loader.env!r} of "
            f"{loader.conf_source}. Next: write one (the README of kedro_kfp shows the keys), or name another --env."
        )
    return written
