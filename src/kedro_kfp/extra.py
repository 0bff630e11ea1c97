"""kfp and what comes with it, imported when a command needs it."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

from kedro_kfp.errors import MissingPackageError


def kfp_module(name: str, purpose: str) -> ModuleType:
    """The module; `MissingPackageError` with the install command where its package is not there."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp's own imports warn of their own parts
            return import_module(name)
    except ModuleNotFoundError as error:
        package = "kubeflow-katib-api" if name.startswith("kubeflow_katib") else "kfp kfp-kubernetes"
        raise MissingPackageError(package, purpose) from error
