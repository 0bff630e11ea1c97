"""The exit handler's command: what became of a run, as one JSON file, however it ended.

python -m kedro_kfp.outcome --folder FOLDER_OR_URL --run RUN_ID --status JSON
"""

from __future__ import annotations

import argparse
import json
import posixpath
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def write_outcome(folder: str, run: str, status: Any) -> str:
    """Write RUN.json, whole or not at all, and return its place. Keys: run, state, error, finished (UTC)."""
    import fsspec

    error = status.get("error") or {}
    record = {
        "run": run,
        "state": status.get("state", "UNKNOWN"),
        "error": error.get("message"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    place = f"{folder.rstrip('/')}/{run}.json"
    files, path = fsspec.core.url_to_fs(place)
    files.makedirs(posixpath.dirname(path), exist_ok=True)
    with files.transaction, files.open(path, "wb") as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())
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
