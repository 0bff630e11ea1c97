"""The compiled file, run by kfp's own orchestrator, does what `kedro run` does; and what it does when steps fail."""

import json
import os
import signal
import subprocess
import time

import pytest
import yaml
from toy_kedro import copy_toy, kedro, start_kedro


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def local(project, compiled, **params):
    return kedro(project, "kubeflow", "local", str(compiled), "--env", "base", "--params", json.dumps(params))


def outcome(project):
    (file,) = (project / "data/outcomes").iterdir()
    assert "{{" not in file.name, "the run's id"
    return json.loads(file.read_text())


def test_the_compiled_file_writes_what_kedro_run_writes(tmp_path, compiled):
    on_cluster, at_home = copy_toy(tmp_path / "cluster"), copy_toy(tmp_path / "home")
    run = local(on_cluster, compiled, rows=20, shards=4)
    assert run.returncode == 0, run.stdout + run.stderr
    assert kedro(at_home, "run", "--env", "base", "--params", "rows=20,shards=4").returncode == 0

    made = files_of(on_cluster / "data")
    assert outcome(on_cluster)["state"] == "SUCCEEDED"
    assert {name: data for name, data in made.items() if not name.startswith("outcomes/")} == files_of(at_home / "data")
    assert len(files_of(at_home / "data")) == 4 + 1 + 4 + 2

    handed = on_cluster / "build/kubeflow-local"
    (metadata,) = handed.rglob("finish/executor_output.json")
    shown = json.loads(metadata.read_text())["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert set(shown) == {"total", "by_shard.s0", "by_shard.s1", "by_shard.s2", "by_shard.s3"}
    assert [page.read_text() for page in handed.rglob("finish/report")] == ["<h1>2470</h1>"]


def test_a_shard_that_keeps_failing_fails_the_run_by_name_and_one_that_fails_once_does_not(project, compiled):
    fault = {"shard": "s1", "times": 99, "folder": str(project / "attempts")}
    run = local(project, compiled, fault=fault)
    assert run.returncode == 1
    assert "step 'square', shard 's1', node 'square_numbers' failed: ValueError: shard s1 is cursed" in run.stdout
    assert "finished with status" in run.stderr.splitlines()[-1]
    assert len((project / "attempts/s1.attempts").read_text()) == 3, "two retries, as kubeflow.yml says"
    assert sorted(file.name for file in (project / "data/squares").iterdir()) == ["s0.json", "s2.json"]
    assert not (project / "data/metrics.json").exists(), "what waits for the loop does not run"
    record = outcome(project)
    assert record["state"] == "FAILED"
    (failure,) = record["failures"]
    assert {**failure, "error": None} == {
        "step": "square", "item": "s1", "node": "square_numbers", "code": 1, "error": None
    }  # fmt: skip
    assert record["error"] == failure["error"]
    assert failure["error"].endswith("failed: ValueError: shard s1 is cursed")
    (project / "data/outcomes").rename(project / "first")

    again = local(project, compiled, fault={**fault, "times": 4})
    assert again.returncode == 0, "the shard fails once more, and is tried again: " + again.stdout + again.stderr
    assert (outcome(project)["state"], outcome(project)["failures"]) == ("SUCCEEDED", [])
    attempts = {file.name: len(file.read_text()) for file in (project / "attempts").iterdir()}
    assert attempts == {"s0.attempts": 2, "s1.attempts": 5, "s2.attempts": 2}, "no other task is tried again"
    assert json.loads((project / "data/metrics.json").read_text())["total"] == 506


def test_a_run_that_is_told_to_stop_leaves_no_step_at_work(project, compiled):
    slow = {"fault": {"shard": None, "times": 0, "folder": str(project / "attempts"), "seconds": 600}}
    flags = ["kubeflow", "local", str(compiled), "--env", "base", "--params", json.dumps(slow)]
    run = start_kedro(project, *flags)
    while len(list((project / "attempts").glob("*.attempts"))) < 2:
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    children = subprocess.run(["ps", "--ppid", str(run.pid), "-o", "pid="], capture_output=True, text=True, check=True)
    assert len(children.stdout.split()) == 2

    run.send_signal(signal.SIGTERM)
    run.communicate()
    assert run.returncode == 128 + signal.SIGTERM
    for child in children.stdout.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(child), 0)
    assert sorted(file.stem for file in (project / "attempts").iterdir()) == ["s0", "s1"], "none began after it"


@pytest.mark.parametrize(
    ("content", "says"), [(None, "it is not there"), ("- a\n", "no pipeline specification"), ("{", "it is not YAML")]
)
def test_a_file_that_is_no_compiled_pipeline_is_refused(project, content, says):
    if content:
        (project / "file.yaml").write_text(content)
    run = kedro(project, "kubeflow", "local", "file.yaml")
    assert run.returncode == 1
    assert says in run.stderr


def test_kfp_is_as_it_was_after_a_run(project, compiled, monkeypatch):
    import builtins
    import logging

    from kfp.local import io, subprocess_task_handler

    from kedro_kfp.errors import RunError
    from kedro_kfp.local import run_locally

    before = subprocess_task_handler.SubprocessTaskHandler, io.IOStore, builtins.print, logging.getLogger().level
    broken = yaml.safe_load_all(compiled.read_text())
    spec, platform = broken
    for executor in spec["deploymentSpec"]["executors"].values():
        executor["container"]["command"] = ["false"]
    (project / "broken.yaml").write_text(yaml.safe_dump_all([spec, platform]))
    with pytest.raises(RunError, match="write-shards"):
        run_locally(project / "broken.yaml", project, {})
    assert before == (
        subprocess_task_handler.SubprocessTaskHandler, io.IOStore, builtins.print, logging.getLogger().level
    )  # fmt: skip
