"""kfp and what comes with it, imported when a command needs it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from kedro_kfp.errors import MissingPackageError

_LEAN = "_KFP_RUNTIME"  # "true" in kfp's own containers, where `import kfp` leaves out its API client


def kfp_module(name: str, purpose: str) -> ModuleType:
    """The module; `MissingPackageError` with the install command where its package is not there.

    After it `import kfp` may be without `kfp.Client` in this process: ask for `kfp.client`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp's own imports warn of their own parts
            if name.startswith("kfp."):
                with _lean():
                    import_module("kfp")
            return import_module(name)
    except ModuleNotFoundError as error:
        package = "kubeflow-katib-api" if name.startswith("kubeflow_katib") else "kfp kfp-kubernetes"
        raise MissingPackageError(package, purpose) from error


@contextmanager
def _lean() -> Iterator[None]:
    # The client brings that of Kubernetes: a fifth of the time of compiling, which needs neither.
    before = os.environ.get(_LEAN)
    os.environ[_LEAN] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LEAN]
        else:
            os.environ[_LEAN] = before
