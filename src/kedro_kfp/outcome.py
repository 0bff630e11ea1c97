"""The exit handler's command: what became of a run, as one JSON file, however it ended.

python -m kedro_kfp.outcome --folder FOLDER_OR_URL --run RUN_ID --status JSON
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from kedro_kfp import last_words

# Kubeflow's metadata store has words of its own. It goes on saying RUNNING where a task was killed.
_STATES = {"COMPLETE": "SUCCEEDED", "CACHED": "SUCCEEDED", "RUNNING": "UNFINISHED"}


def write_outcome(folder: str, run: str, status: Mapping[str, Any]) -> str:
    """Write RUN.json, whole or not at all, and return its place. Keys: run, state, error, failures, finished (UTC).

    The state is SUCCEEDED, FAILED, UNFINISHED where a task was killed or stopped, or another word of Kubeflow's.
    `failures` are the last words of tasks (step, item, node, exit code, error); those without a code and an error were
    at work. `error` is that of the first, or else what Kubeflow says.
    """
    said = str(status.get("state") or "UNKNOWN")
    state = _STATES.get(said, said)
    failures = [] if state == "SUCCEEDED" else last_words.gather(folder, run)
    first = next((words["error"] for words in failures if words["error"]), None)
    record = {
        "run": run,
        "state": state,
        "error": first or (status.get("error") or {}).get("message"),
        "failures": failures,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    place = f"{folder.rstrip('/')}/{run}.json"
    last_words.write_json(place, record)
    last_words.clear(folder, run)
    return place


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and write the outcome."""
    parser = argparse.ArgumentParser(prog="python -m kedro_kfp.outcome", description=__doc__)
    parser.add_argument("--folder", required=True, help="a folder or URL")
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--status", required=True, type=json.loads, help="the final status, as Kubeflow gives it")
    given = parser.parse_args(arguments)
    print(f"the run's outcome is in {write_outcome(given.folder, given.run, given.status)}")


if __name__ == "__main__":
    main()
