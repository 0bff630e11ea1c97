"""A compiled file as it lies on disk: the pipeline's specification, and what Kubernetes is told beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro_kfp.errors import CompiledFileError, ParametersError
from kedro_kfp.parameters import parse_object


@dataclass(frozen=True)
class Compiled:
    """Both documents of a compiled file."""

    file: Path
    spec: dict[str, Any]
    platform: dict[str, Any]

    @property
    def name(self) -> str:
        """The pipeline's name in Kubeflow."""
        return str(self.spec["pipelineInfo"]["name"])

    @property
    def env(self) -> str:
        """The Kedro environment that its steps run in, where a run names no other."""
        return str(self.spec["root"]["inputDefinitions"]["parameters"]["env"]["defaultValue"])

    def params(self) -> dict[str, Any]:
        """The parameters that the file was compiled with. `CompiledFileError` where they are no JSON object."""
        inputs = self.spec["root"].get("inputDefinitions", {}).get("parameters", {})
        try:
            return parse_object(inputs.get("params", {}).get("defaultValue", "{}"), "params", ParametersError)
        except ParametersError as error:
            raise CompiledFileError(str(self.file), [f"its own parameters cannot be read: {error}"]) from error

    def containers(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Each executor's name, its container, and what Kubernetes is told of it."""
        told = self.platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
        for name, executor in self.spec["deploymentSpec"]["executors"].items():
            yield name, executor["container"], told.get(name, {})


def read_compiled(file: Path) -> Compiled:
    """The documents of `file`. `CompiledFileError` where it is missing, or no compiled pipeline."""
    import yaml

    if not file.is_file():
        raise CompiledFileError(str(file), ["it is not there"])
    try:
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise CompiledFileError(str(file), [f"it is not YAML: {error}"]) from error
    if not documents or not isinstance(documents[0], dict) or "pipelineInfo" not in documents[0]:
        raise CompiledFileError(str(file), ["its first document is no pipeline specification of KFP v2"])
    return Compiled(file, documents[0], documents[1] if len(documents) > 1 else {})
