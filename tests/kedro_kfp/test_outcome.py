"""What the exit handler leaves behind, from the statuses that Kubeflow gives and the last words of tasks."""

import json
from pathlib import Path

import pytest

from kedro_kfp.last_words import Task
from kedro_kfp.outcome import main


def outcome(folder, run="run-1", status=None):
    main(["--folder", folder, "--run", run, "--status", json.dumps(status or {})])
    return json.loads(Path(folder.removeprefix("file://"), f"{run}.json").read_text())


def names(folder):
    return sorted(one.name for one in folder.iterdir())


@pytest.mark.parametrize(
    ("status", "state", "error"),
    [
        # the backend sends MLMD's state and never an error; kfp's local orchestrator sends the states of a run
        ({"state": "COMPLETE", "error": {}}, "SUCCEEDED", None),
        ({"state": "CACHED", "error": {}}, "SUCCEEDED", None),
        ({"state": "FAILED", "error": {}}, "FAILED", None),
        ({"state": "RUNNING", "error": {}}, "UNFINISHED", None),
        ({"state": "CANCELED", "error": {}}, "CANCELED", None),
        ({"state": "SUCCEEDED"}, "SUCCEEDED", None),
        ({"state": "FAILED", "error": {"code": 9, "message": "square failed"}}, "FAILED", "square failed"),
        ({"state": "FAILED", "error": None}, "FAILED", None),
        ({}, "UNKNOWN", None),
    ],
)
def test_an_outcome_is_one_file_a_run(tmp_path, status, state, error):
    for run in ("run-1", "run-2"):
        record = outcome(f"{tmp_path}/new/outcomes/", run, status)
        assert (record["run"], record["state"], record["error"], record["failures"]) == (run, state, error, [])
        assert record["finished"].endswith("+00:00")
    assert names(tmp_path / "new/outcomes") == ["run-1.json", "run-2.json"]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_an_outcome_has_the_last_words_of_the_tasks_of_its_run_and_no_other(tmp_path, scheme):
    folder = f"{scheme}{tmp_path}/outcomes"
    killed = Task(folder, "run-1", "inject", "shard/../00")
    killed.leave()
    failed = Task(folder, "run-1", "search", None)
    failed.leave()
    failed.leave(1, "find", "step 'search', node 'find' failed: ValueError: " + "x" * 9000)
    Task(folder, "run-2", "search", None).leave(1, "find", "of another run")
    recovered = Task(folder, "run-1", "inject", "shard-01")
    recovered.leave(1, "train", "once")
    recovered.take_back()
    recovered.take_back()

    record = outcome(folder, status={"state": "FAILED", "error": {"message": "Task failed."}})

    first, second = record["failures"]
    assert (first["step"], first["item"], first["node"], first["code"]) == ("search", None, "find", 1)
    assert record["error"] == first["error"]
    assert first["error"].startswith("step 'search', node 'find' failed: ValueError: xxx")
    assert len(first["error"]) == 500
    assert second == {"step": "inject", "item": "shard/../00", "node": None, "code": None, "error": None}
    assert names(tmp_path / "outcomes") == ["run-1.json", "run-2.tasks"]


def test_a_run_that_succeeded_has_no_failures_even_where_a_task_could_not_take_back_its_words(tmp_path):
    Task(str(tmp_path), "run-1", "search", None).leave(1, "find", "the attempt before")
    record = outcome(str(tmp_path), status={"state": "COMPLETE", "error": {}})
    assert (record["state"], record["error"], record["failures"]) == ("SUCCEEDED", None, [])
    assert names(tmp_path) == ["run-1.json"]


def test_tasks_of_one_step_leave_files_of_their_own(tmp_path):
    items = ["a/b", "a-b", "a.b", "A-B", "", None, "x" * 400]
    assert len({Task(str(tmp_path), "r", "s", item).place for item in items}) == len(items)


def test_a_status_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(["--folder", str(tmp_path), "--run", "broken", "--status", "FAILED"])
    assert caught.value.code == 2
    assert not (tmp_path / "broken.json").exists()
