"""Would Kubeflow take a compiled file? Strict parsing by its protocol, our rules, and pods by Kubernetes' schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro_kfp.compiled import Compiled, read_compiled
from kedro_kfp.errors import CompiledFileError, MissingPackageError
from kedro_kfp.extra import kfp_module
from kedro_kfp.fields import is_pinned
from kedro_kfp.schema import pod_of, schema_defects

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_REPLACED = re.compile(r"\{\{\$(\.(inputs|outputs)\..+)?\}\}")  # what the cluster's launcher knows
_MAX_BYTES = 1_000_000  # etcd refuses objects above about 1.5 MB, and the cluster adds to what it is given


@dataclass(frozen=True)
class Checks:
    """What was checked, and what could not be."""

    done: tuple[str, ...]
    left_out: tuple[str, ...]


def validate(file: Path, strict: bool = False) -> Checks:
    """What was checked, for people. `CompiledFileError` with every defect that was found.

    A check whose package is not installed is left out; where `strict` is set, that is a `MissingPackageError`.
    """
    compiled = read_compiled(file)
    defects = [*_parse(compiled)]
    done, left_out = ["strict parse as a KFP v2 pipeline"], []
    if not defects:
        defects += [*_sizes(compiled), *_tasks(compiled, compiled.spec["root"], "root"), *_containers(compiled)]
        done.append(f"own rules on {len(list(compiled.containers()))} containers")
        try:
            defects += _pods(compiled)
            done.append("pods by the OpenAPI schema of Kubernetes")
        except MissingPackageError as error:
            if strict:
                raise
            left_out.append(f"pods by the OpenAPI schema of Kubernetes: {error}")
    if defects:
        raise CompiledFileError(str(file), defects)
    return Checks(tuple(done), tuple(left_out))


def _parse(compiled: Compiled) -> Iterator[str]:
    json_format = kfp_module("google.protobuf.json_format", "validating")
    spec = kfp_module("kfp.pipeline_spec.pipeline_spec_pb2", "validating")
    kubernetes = kfp_module("kfp.kubernetes.kubernetes_executor_config_pb2", "validating")
    messages = [
        (compiled.spec, spec.PipelineSpec(), "the specification"),
        (compiled.platform, spec.PlatformSpec(), "the platform"),
    ]
    for name, container, told in compiled.containers():
        messages.append(({"container": container}, spec.PipelineDeploymentConfig.ExecutorSpec(), name))
        messages.append((told, kubernetes.KubernetesExecutorConfig(), f"{name} on Kubernetes"))
    for given, message, where in messages:
        try:
            json_format.ParseDict(given, message)
        except json_format.ParseError as error:
            yield f"{where}: {error}"


def _sizes(compiled: Compiled) -> Iterator[str]:
    size = compiled.file.stat().st_size
    if size > _MAX_BYTES:
        yield f"it has {size} bytes, and clusters keep no more than about {_MAX_BYTES}; fan out instead of more steps"


def _tasks(compiled: Compiled, component: Mapping[str, Any], where: str) -> Iterator[str]:
    tasks = component["dag"]["tasks"]
    for name, task in tasks.items():
        if not _NAME.fullmatch(name):
            yield f"task {where}/{name}: the name is no DNS label (lower case, digits, hyphens, at most 63)"
        for earlier in task.get("dependentTasks", []):
            if earlier not in tasks:
                yield f"task {where}/{name}: it waits for {earlier!r}, which is no task of {where}"
        called = compiled.spec["components"].get(task["componentRef"]["name"])
        if called is None:
            yield f"task {where}/{name}: it runs {task['componentRef']['name']!r}, which the file does not have"
        elif "dag" in called:
            yield from _tasks(compiled, called, f"{where}/{name}")
        elif called["executorLabel"] not in compiled.spec["deploymentSpec"]["executors"]:
            yield f"task {where}/{name}: its executor {called['executorLabel']!r} is missing"


def _containers(compiled: Compiled) -> Iterator[str]:
    for name, container, _ in compiled.containers():
        if not is_pinned(container.get("image", "")):
            yield f"{name}: the image {container.get('image')!r} is not pinned"
        for resource in ("resourceCpuLimit", "resourceMemoryLimit"):
            if not container.get("resources", {}).get(resource):
                yield f"{name}: it has no {resource}, and could take a machine from its neighbours"
        for argument in container.get("args", []):
            if "{{" in argument and not re.fullmatch(r"\{\{[^{}]+\}\}", argument):
                yield f"{name}: the argument {argument!r} joins a placeholder to text, which the launcher does not do"
        for text in _texts(container):
            for placeholder in _PLACEHOLDER.findall(text):
                if not _REPLACED.fullmatch(placeholder):
                    yield (
                        f"{name}: nobody replaces {placeholder!r} in a container; allowed are {{{{$}}}} and the task's "
                        "inputs and outputs, and what Kubeflow knows of the run is given as an input's value"
                    )


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping | list):
        for one in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _texts(one)


def _pods(compiled: Compiled) -> list[str]:
    models = kfp_module("kubeflow_katib_api.models", "checking pods by the schema of Kubernetes")
    return [
        f"{name}: {defect}"
        for name, container, told in compiled.containers()
        for defect in schema_defects(models.IoK8sApiCoreV1Pod, pod_of(name, container, told))
    ]
