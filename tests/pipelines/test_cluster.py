"""The cluster environment: the pipeline that runs at home can be planned for Kubeflow as it is shipped."""

from pathlib import PurePosixPath

from repository import ROOT

from kedro_kfp.project import read_project


def test_the_shipped_cluster_environment_plans_the_whole_pipeline():
    project = read_project(ROOT, "cluster")
    plan = project.plan()
    assert {name for step in plan.steps for name in step.nodes} == {node.name for node in project.pipeline.nodes}
    assert {step.name for step in plan.steps} >= {"prepare", "base", "search", "inject", "evaluate", "report"}
    assert {step.name for step in plan.steps if step.profile.accelerator} >= {"search", "inject", "evaluate"}


def test_the_pseudonym_key_outlives_a_pod():
    key = PurePosixPath(read_project(ROOT, "cluster").catalog["pseudonym_key"]["filepath"])
    assert key.is_relative_to("data")
