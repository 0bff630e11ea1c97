"""Trials as append-only JSON lines: a study's only state, readable by a person, safe against a kill at any moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Trial(BaseModel):
    """One point of a study. Refused: no valid config, never trained. Failed: it raised, and the study went on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    tid: int
    values: dict[str, list[int | float]]
    config: dict[str, Any] | None
    status: Literal["ok", "failed", "refused"]
    objective_value: float | None = None
    trainable_parameters: int | None = None
    per_user: dict[str, float] = {}
    seconds: float = 0.0
    error: str | None = None


class Journal:
    """The trials of one study in one file. A last line that a kill cut short is discarded when the file is opened."""

    def __init__(self, path: Path) -> None:
        """Open or begin the journal at `path`."""
        self.path = path
        self.trials: list[Trial] = []
        if path.is_file():
            whole, _, _cut = path.read_bytes().rpartition(b"\n")
            self.trials = [Trial(**json.loads(line)) for line in whole.splitlines()]
            with path.open("r+b") as stream:
                stream.truncate(len(whole) + 1 if whole else 0)

    def append(self, trial: Trial) -> None:
        """Add a finished trial; on return it is on disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(trial.model_dump_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.trials.append(trial)
