"""Trials as append-only JSON lines: a search's only state, readable by a person, safe against a kill at any moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from imprint.errors import TwoRunsError
from imprint.storage import address, fetch, flush

SEARCH_VERSION = 2
"""Raised when a point's values, or what an objective value means, are no longer what journals of before say."""


class Trial(BaseModel):
    """One point of a study. Refused: no valid config, never trained. Failed: it raised, and the study went on.

    `by_strength` has the mean loss of its users at each strength it was scored at; the others are of the best one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    tid: int
    values: dict[str, list[int | float]]
    config: dict[str, Any] | None
    status: Literal["ok", "failed", "refused"]
    objective_value: float | None = None
    trainable_parameters: int | None = None
    per_user: dict[str, float] = {}
    by_strength: dict[float, float] = {}
    seconds: float = 0.0
    error: str | None = None


class Journal:
    """The trials of a search in one file, a line a round: all trials that were trained together, or none of them.

    A last line that a kill cut short is discarded when the file is opened. Two runs that do the same work at once may
    have written one trial twice: the first counts. Neither writes on after it finds lines that it has not read.
    """

    def __init__(self, path: Path) -> None:
        """Open or begin the journal at `path`."""
        self.path = fetch(path)
        self._studies: dict[str, list[Trial]] = {}
        self._pending: list[Trial] = []
        self._known = 0
        if path.is_file():
            read = path.read_bytes()
            whole, _, cut = read.rpartition(b"\n")
            for line in whole.splitlines():
                for trial in json.loads(line):
                    if trial["tid"] == len(self.of(trial["study"])):
                        self.of(trial["study"]).append(Trial(**trial))
            self._known = len(read) - len(cut)
            if cut:
                with path.open("r+b") as stream:
                    stream.truncate(self._known)

    def of(self, study: str) -> list[Trial]:
        """All trials of a study so far, by number."""
        return self._studies.setdefault(study, [])

    def add(self, trial: Trial) -> None:
        """Note a trial of the round under way."""
        self.of(trial.study).append(trial)
        self._pending.append(trial)

    def end_round(self) -> None:
        """The round under way is over; on return it is on disk."""
        if not self._pending:
            return
        found = self._size()
        if found != self._known:
            raise TwoRunsError(
                f"{address(self.path)} has {found} bytes, of which this run knows {self._known}: another run is at "
                "the same search. Next: let one end, or give the other a data_root of its own, and start again; trials "
                "are kept."
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([trial.model_dump(mode="json") for trial in self._pending], ensure_ascii=False)
        with self.path.open("ab") as stream:
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._known = self._size()
        flush(self.path)
        self._pending.clear()

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0
