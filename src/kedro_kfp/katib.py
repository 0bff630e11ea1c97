"""A Katib Experiment: TPE over Kedro parameters, with one step of the pipeline as the trial.

Bounds and choices are read from the Kedro parameters, so that they stand in one place. Katib writes a trial's values
into its manifest as bare text, without escaping; a choice is therefore passed as its number in a list.

To collect what a trial prints, Katib joins command and arguments by spaces, without quotes, and runs that under
`sh -c`, unless they begin with `sh -c` (katib: pkg/webhook/v1beta1/pod/utils.go, wrapWorkerContainer). A trial's
command is therefore one line of shell, quoted here.
"""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro_kfp.compiled import read_compiled
from kedro_kfp.datasets import in_one_place
from kedro_kfp.emit import compile_plan
from kedro_kfp.errors import CompiledFileError, MissingPackageError, SettingsError
from kedro_kfp.extra import kfp_module
from kedro_kfp.parameters import value_at
from kedro_kfp.plan import Plan, Step
from kedro_kfp.project import Project
from kedro_kfp.schema import pod_of, schema_defects
from kedro_kfp.search_settings import Katib, Searched

_TRIAL = "trial"  # Katib's own name of a trial, which keeps trials' outputs apart


def write_experiment(project: Project, params: Mapping[str, Any], output: Path, strict: bool = False) -> str:
    """Write the Experiment to `output`, and say how it was checked. Errors are those of `checked_experiment`."""
    experiment, checked = checked_experiment(project, params, strict)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(experiment, encoding="utf-8")
    return checked


def checked_experiment(project: Project, params: Mapping[str, Any], strict: bool = False) -> tuple[str, str]:
    """The Experiment as YAML, and how it was checked. `CompiledFileError` where it fails the check.

    Without the package that carries the schema nothing is checked; where `strict` is set, that is a
    `MissingPackageError`.
    """
    import yaml

    experiment = make_experiment(project, params)
    name = experiment["metadata"]["name"]
    checked = "checked by Katib's schema and the pod's"
    try:
        models = kfp_module("kubeflow_katib_api.models", "checking by Katib's schema")
    except MissingPackageError as error:
        if strict:
            raise
        checked = f"NOT checked by Katib's schema nor the pod's: {error}"
    else:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            **experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"],
        }
        defects = [
            *schema_defects(models.V1beta1Experiment, experiment),
            *schema_defects(models.IoK8sApiCoreV1Pod, pod),
        ]
        if defects:
            raise CompiledFileError(f"the Experiment {name}", defects)
    return yaml.safe_dump(experiment, sort_keys=False), checked


def make_experiment(project: Project, params: Mapping[str, Any]) -> dict[str, Any]:
    """The Experiment as Kubernetes reads it. `SettingsError` where kubeflow.yml or the parameters do not allow one."""
    katib, run = project.settings.katib, project.settings.run
    if katib is None:
        raise SettingsError("kubeflow.yml has no block katib. Next: name a step, an objective and parameters there.")
    if run.run_id_parameter is None:
        raise SettingsError(
            "run.run_id_parameter is not set, and all trials would write the same files. Next: set it, and use that "
            "parameter in the paths of the step's outputs."
        )
    plan = project.plan()
    step = _trial_step(plan, katib)
    _refuse_shared_outputs(project, step, run.run_id_parameter)
    spaces = {key: _space(key, searched, project.parameters) for key, searched in katib.parameters.items()}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {
            "name": f"{project.settings.name}-{step.name}",
            "namespace": project.settings.client.pods_namespace,
        },
        "spec": {
            "objective": _objective(katib),
            "algorithm": {
                "algorithmName": "tpe",
                "algorithmSettings": [
                    {"name": "n_startup_trials", "value": str(katib.startup)},
                    {"name": "random_state", "value": str(katib.seed)},
                ],
            },
            "maxTrialCount": katib.trials,
            "parallelTrialCount": katib.parallel,
            "maxFailedTrialCount": katib.failures,
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "parameters": list(spaces.values()),
            "trialTemplate": {
                "primaryContainerName": "main",
                "trialParameters": [*_trial_parameters(spaces), {"name": _TRIAL, "reference": "${trialSpec.Name}"}],
                "trialSpec": _job(project, plan, step, params, katib),
            },
        },
    }


def _objective(katib: Katib) -> dict[str, Any]:
    """Katib would take the best of all lines of the log that look like the objective; the step prints it last."""
    name = katib.objective.name
    latest = [{"name": name, "value": "latest"}]
    return {"type": katib.objective.goal, "objectiveMetricName": name, "metricStrategies": latest}


def _trial_step(plan: Plan, katib: Katib) -> Step:
    found = {step.name: step for step in plan.steps}.get(katib.step)
    if found is None:
        known = [step.name for step in plan.steps]
        raise SettingsError(
            f"katib.step: there is no step {katib.step!r}; allowed are {known}. Next: correct the name."
        )
    if found.loop:
        raise SettingsError(f"katib.step: {katib.step!r} fans out over {found.loop.over!r}. Next: name another step.")
    return found


def _refuse_shared_outputs(project: Project, step: Step, run_id_parameter: str) -> None:
    outputs = {name for node in project.pipeline.only_nodes(*step.nodes).nodes for name in node.outputs}
    one, other = (project.catalog_of_run(run) for run in ("trial-one", "trial-other"))
    if shared := in_one_place(sorted(outputs), one, other):
        raise SettingsError(
            f"step {step.name!r}: the datasets {shared} lie in the same place whatever the run is, and trials side by "
            f"side would write one file. Next: put ${{runtime_params:{run_id_parameter}}} into their paths."
        )


def _space(key: str, searched: Searched, parameters: Mapping[str, Any]) -> dict[str, Any]:
    try:
        written = value_at(parameters, searched.source)
    except KeyError as error:
        raise SettingsError(f"katib.parameters.{key}.source: there is no parameter {searched.source!r}") from error
    if not isinstance(written, list) or len(written) < 2:
        raise SettingsError(f"katib.parameters.{key}.source: {searched.source!r} must be a list, and is {written!r}")
    if searched.kind == "choice":
        feasible: dict[str, Any] = {"list": [str(number) for number in range(len(written))]}
    elif len(written) != 2 or not all(isinstance(bound, int | float) for bound in written) or written[0] >= written[1]:
        raise SettingsError(
            f"katib.parameters.{key}.source: {searched.source!r} must be [least, greatest], and is {written!r}"
        )
    else:
        feasible = {"min": str(written[0]), "max": str(written[1])}
        feasible |= {"distribution": "logUniform"} if searched.logarithmic else {}
    kind = "categorical" if searched.kind == "choice" else searched.kind
    return {"name": _trial_name(key), "parameterType": kind, "feasibleSpace": feasible}


def _trial_parameters(spaces: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    for key, space in spaces.items():
        yield {"name": space["name"], "description": f"Kedro parameter {key}", "reference": space["name"]}


def _job(project: Project, plan: Plan, step: Step, params: Mapping[str, Any], katib: Katib) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pipeline.yaml")
        compile_plan(plan, project.settings, project.env, file, params)
        executors = {name: (container, told) for name, container, told in read_compiled(file).containers()}
    pod = pod_of(step.name, *executors[f"exec-{step.name}"])
    (main,) = pod["spec"]["containers"]
    line = shlex.join([*main["command"], *_flags(project, plan, step, params, katib)])
    main.update(command=["sh", "-c"], args=[line])
    metadata = {"labels": pod["metadata"]["labels"], "annotations": {"sidecar.istio.io/inject": "false"}}
    spec = {name: value for name, value in pod["spec"].items() if value is not None}
    if project.settings.service_account:
        spec["serviceAccountName"] = project.settings.service_account
    retries = step.profile.retry.attempts
    template = {"metadata": metadata, "spec": spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": retries, "template": template}}


def _flags(project: Project, plan: Plan, step: Step, params: Mapping[str, Any], katib: Katib) -> list[str]:
    flags = [*plan.flags(step), "--env", project.env, "--params", _text(dict(params))]
    flags += ["--set", str(project.settings.run.run_id_parameter), _placeholder(_TRIAL)]
    for key, searched in katib.parameters.items():
        value = _placeholder(_trial_name(key))
        if searched.kind == "choice":
            flags += ["--pick", key, _text(value_at(project.parameters, searched.source)), value]
        else:
            flags += ["--set-json", key, value]
    return [*flags, "--objective", katib.objective.name, katib.objective.dataset, katib.objective.key]


def _text(value: Any) -> str:
    """JSON without a dollar, which Kubernetes and Katib would read something into, quotes or none."""
    return json.dumps(value, sort_keys=True).replace("$", r"\u0024")


def _placeholder(name: str) -> str:
    return f"${{trialParameters.{name}}}"


def _trial_name(key: str) -> str:
    return re.sub(r"\W", "_", key)
