"""The toy project, copied; and Kedro given back to the other tests of this process."""

import pytest
from kedro.framework.project import configure_project
from kedro.framework.startup import bootstrap_project
from repository import ROOT
from toy_kedro import copy_toy, kedro


@pytest.fixture
def project(tmp_path):
    """A copy of the toy project, in which this process may also load Kedro."""
    yield copy_toy(tmp_path)
    bootstrap_project(ROOT)
    configure_project("pipelines")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """The toy's compiled pipeline, made once by the command itself."""
    folder = copy_toy(tmp_path_factory.mktemp("compiled"))
    run = kedro(folder, "kubeflow", "compile", "--env", "cluster", "--output", "pipeline.yaml")
    assert run.returncode == 0, run.stdout + run.stderr
    return folder / "pipeline.yaml"
