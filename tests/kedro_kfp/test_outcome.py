"""What the exit handler leaves behind, from the statuses that Kubeflow gives."""

import json

import pytest

from kedro_kfp.outcome import main


@pytest.mark.parametrize(
    ("status", "state", "error"),
    [
        ({"state": "SUCCEEDED", "error": {}}, "SUCCEEDED", None),
        ({"state": "FAILED", "error": {"code": 9, "message": "square failed"}}, "FAILED", "square failed"),
        ({"state": "CANCELLED", "error": None}, "CANCELLED", None),
        ({}, "UNKNOWN", None),
    ],
)
def test_an_outcome_is_one_file_a_run(tmp_path, status, state, error):
    for run in ("run-1", "run-2"):
        main(["--folder", f"{tmp_path}/new/outcomes/", "--run", run, "--status", json.dumps(status)])
    files = sorted((tmp_path / "new/outcomes").iterdir())
    assert [file.name for file in files] == ["run-1.json", "run-2.json"]
    record = json.loads(files[0].read_text())
    assert (record["run"], record["state"], record["error"]) == ("run-1", state, error)
    assert record["finished"].endswith("+00:00")


def test_a_url_is_a_folder_too_and_a_status_that_is_no_json_is_refused(tmp_path):
    main(["--folder", (tmp_path / "url").as_uri(), "--run", "run", "--status", "{}"])
    assert (tmp_path / "url/run.json").exists()
    with pytest.raises(SystemExit) as caught:
        main(["--folder", str(tmp_path), "--run", "broken", "--status", "FAILED"])
    assert caught.value.code == 2
    assert not (tmp_path / "broken.json").exists()
