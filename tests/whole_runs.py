"""Whole runs in processes of their own, and what they left, without what a clock measured or where it lies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from repository import ROOT

KEDRO = Path(sys.executable).with_name("kedro")
CLOCKS = {"seconds", "seconds_per_user"}
"""The only fields, anywhere in what a run writes, that a clock measured."""


def kedro_run(data_root: Path, *arguments: str, env: str = "test", **params: Any) -> subprocess.CompletedProcess:
    """`kedro run` to its end, which must be a good one."""
    given = ",".join(f"{name}={value}" for name, value in {"data_root": data_root, **params}.items())
    command = [KEDRO, "run", "--env", env, "--params", given, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def metrics(data_root: Path) -> dict[str, Any]:
    """metrics.json without what a clock measured."""
    return without_clocks(json.loads((data_root / "08_reporting/metrics.json").read_text()))


def without_clocks(value: Any) -> Any:
    """The same without the fields in `CLOCKS`, at any depth."""
    if isinstance(value, dict):
        return {key: without_clocks(one) for key, one in value.items() if key not in CLOCKS}
    return [without_clocks(one) for one in value] if isinstance(value, list) else value


def records_of(data_root: Path, dataset: str) -> dict[str, Any]:
    """What a dataset of records has by shard."""
    return {file.stem: json.loads(file.read_text()) for file in sorted((data_root / dataset).iterdir())}
