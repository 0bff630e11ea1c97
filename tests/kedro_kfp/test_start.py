"""`kedro kubeflow init`: what it writes loads, teaches every key, compiles, and replaces nothing."""

import shlex

import pytest
import yaml
from toy_kedro import kedro

from kedro_kfp.errors import SettingsError
from kedro_kfp.profiles import Profile
from kedro_kfp.settings import Client, KubeflowSettings, Run, read_settings
from kedro_kfp.start import write_first_files

TOY_S_OWN = {
    "fan_outs: {}": "fan_outs: {shard_names: {parameter: shard, parallelism: 2}}",
    "  gpu:": "  heavy: {cpu: 2}\n  gpu:",
}


@pytest.fixture
def bare(project):
    """The toy as it was before anybody thought of Kubeflow."""
    (project / "conf/cluster/kubeflow.yml").unlink()
    return project


def test_a_project_starts_with_a_file_that_compiles_once_its_own_tags_are_in_it(bare):
    started = kedro(bare, "kubeflow", "init", "--with-github-actions")
    assert started.returncode == 0, started.stderr
    file = bare / "conf/cluster/kubeflow.yml"
    unknown = kedro(bare, "kubeflow", "compile", "--env", "cluster")
    assert unknown.returncode == 1
    assert "add fan_outs.shard_names" in unknown.stderr
    assert "add profiles.heavy" in unknown.stderr
    for shipped, own in TOY_S_OWN.items():
        assert shipped in file.read_text()
        file.write_text(file.read_text().replace(shipped, own))

    workflow = yaml.safe_load((bare / ".github/workflows/kubeflow.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["compile"]["steps"] if "run" in step]
    assert commands[0].startswith("pip install -e . ")
    assert len(commands) == 3
    for command in commands[1:]:
        program, *arguments = shlex.split(command)
        assert program == "kedro"
        run = kedro(bare, *arguments)
        assert run.returncode == 0, run.stderr

    before = file.read_text()
    again = kedro(bare, "kubeflow", "init")
    assert again.returncode == 1
    assert "['conf/cluster/kubeflow.yml'] are there already" in again.stderr
    assert file.read_text() == before


def test_the_first_file_says_every_key(tmp_path):
    (file,) = write_first_files(tmp_path, "conf", "My_Package", "moon", with_github_actions=False)
    written = yaml.safe_load(file.read_text())
    settings = read_settings(written)
    assert (settings.name, settings.image_paths) == ("my-package", ("conf/base", "conf/moon"))
    assert set(written) == set(KubeflowSettings.model_fields)
    assert (set(written["run"]), set(written["client"])) == (set(Run.model_fields), set(Client.model_fields))
    assert {*written["profiles"]["default"], *written["profiles"]["gpu"]} == set(Profile.model_fields)
    assert not (tmp_path / ".github").exists()


def test_one_file_that_is_there_keeps_the_other_from_being_written(tmp_path):
    workflow = tmp_path / ".github/workflows/kubeflow.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text("mine")
    (tmp_path / "requirements.txt").write_text("kedro")
    with pytest.raises(SettingsError, match=r"workflows/kubeflow\.yml'\] are there already"):
        write_first_files(tmp_path, "conf", "toy", "cluster", with_github_actions=True)
    assert workflow.read_text() == "mine"
    assert not (tmp_path / "conf").exists()
    workflow.unlink()
    write_first_files(tmp_path, "conf", "toy", "cluster", with_github_actions=True)
    assert "pip install -r requirements.txt " in workflow.read_text()
