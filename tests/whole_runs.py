"""Whole runs in processes of their own, and what they left, without what a clock measured or where it lies."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from repository import ROOT
from warm import Command

CLOCKS = {"seconds", "seconds_per_user"}
"""The only fields, anywhere in what a run writes, that a clock measured."""


def start_run(data_root: Path, *arguments: str, env: str = "test", **params: Any) -> Command:
    """`kedro run`, at work when this returns."""
    given = ",".join(f"{name}={value}" for name, value in {"data_root": data_root, **params}.items())
    return Command(ROOT, "run", "--env", env, "--params", given, *arguments)


def kedro_run(data_root: Path, *arguments: str, **params: Any) -> subprocess.CompletedProcess[str]:
    """`kedro run` to its end, which must be a good one."""
    done = start_run(data_root, *arguments, **params).wait()
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
