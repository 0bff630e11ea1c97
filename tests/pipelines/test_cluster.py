"""The cluster environment: the pipeline that runs at home, planned and compiled for Kubeflow, and Katib's search."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest
import yaml
from repository import ROOT

from imprint.search.settings import SpaceSettings, TrialSettings
from kedro_kfp.emit import compile_plan
from kedro_kfp.katib import write_experiment
from kedro_kfp.profiles import StepWishes
from kedro_kfp.project import read_project
from kedro_kfp.validate import validate

COMMITTED = ROOT / "kubeflow/pipeline.yaml"


@pytest.fixture(scope="module")
def project():
    return read_project(ROOT, "cluster")


@pytest.fixture(scope="module")
def steps(project):
    return {step.name: step for step in project.plan().steps}


def test_the_shipped_cluster_environment_plans_the_whole_pipeline(project, steps):
    assert {name for step in steps.values() for name in step.nodes} == {node.name for node in project.pipeline.nodes}
    assert steps.keys() >= {"prepare", "base", "search", "search-own", "inject", "evaluate", "report"}
    assert {step.name for step in steps.values() if step.profile.accelerator} >= {"search", "inject", "evaluate"}


@pytest.mark.parametrize("name", ["__default__", "compare", "trial"])
def test_every_pipeline_that_is_meant_for_a_cluster_plans_and_may_have_wishes_of_its_own(project, name):
    read = read_project(ROOT, "cluster", name)
    wished = read.settings.model_copy(update={"steps": {"compare": StepWishes(memory="128Gi")}})
    steps = {step.name: step for step in replace(read, settings=wished).plan().steps}
    if name == "compare":
        assert steps["compare"].profile.memory == "128Gi"
        assert steps["compare"].profile.accelerator
        assert not steps["summary"].profile.accelerator, "no card waits for a table"


def test_the_work_on_users_is_one_task_a_shard_and_everything_else_is_one_task(steps):
    loops = {name: step.loop for name, step in steps.items() if step.loop}
    assert loops.keys() == {"search-own", "inject", "evaluate"}
    assert {(loop.over, loop.source, loop.settings.parameter) for loop in loops.values()} == {
        ("shard_names", "prepare", "shard")
    }
    assert {"search-own"} <= set(steps["inject"].needs), "a cohort's choice may be made in another shard"


def test_the_committed_file_is_what_compile_writes_and_is_sound(project, tmp_path):
    """Where it is not: run `kedro kubeflow compile --env cluster`, and commit kubeflow/pipeline.yaml."""
    compile_plan(project.plan(), project.settings, project.env, tmp_path / "pipeline.yaml")
    assert COMMITTED.read_text() == (tmp_path / "pipeline.yaml").read_text()
    assert validate(COMMITTED, strict=True).left_out == ()


def test_katib_searches_the_population_s_space_dimension_by_dimension(tmp_path):
    project = read_project(ROOT, "cluster", "trial")
    assert "checked by Katib's schema" in write_experiment(project, {}, tmp_path / "katib.yaml", strict=True)

    searched = project.settings.katib.parameters
    space = SpaceSettings(**project.parameters["search"]["space"])
    groups = {f"trial.ranks.group_{number}" for number in range(1, space.layer_groups + 1)}
    others = {f"trial.{name}" for name in TrialSettings.model_fields if name != "ranks"}
    assert searched.keys() == groups | others
    assert {
        one.source.removeprefix("search.space.") for one in searched.values()
    } == SpaceSettings.model_fields.keys() - {"layer_groups", "strengths"}  # every trial is scored at each strength
    assert project.parameters["trial"]["ranks"].keys() == {name.rpartition(".")[2] for name in groups}
    spec = yaml.safe_load((tmp_path / "katib.yaml").read_text())["spec"]
    assert spec["objective"]["objectiveMetricName"] == "loss"


def test_trials_side_by_side_never_write_one_file():
    trials = (
        read_project(ROOT, "cluster", "trial", {"run_id": name}) for name in ("imprint-trial-a", "imprint-trial-b")
    )
    assert len({trial.catalog["trial_result"]["filepath"] for trial in trials}) == 2


def test_the_pseudonym_key_outlives_a_pod(project):
    key = PurePosixPath(project.catalog["pseudonym_key"]["filepath"])
    assert key.is_relative_to("data")
