"""Which trainer makes memories: the fleet, or plain PEFT one user at a time. In one format both make the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from imprint.base.fit import TRAINING_VERSION
from imprint.base.load import BaseModelInUse
from imprint.memory.fleet import Fleet
from imprint.memory.settings import MemorySettings
from imprint.memory.trainee import Job
from imprint.memory.trainer import Trained, train_memory
from imprint.provenance import fingerprint


def conditions_of(base: BaseModelInUse, settings: MemorySettings, seed: int) -> list[Any]:
    """What a memory depends on beside its user's rows and its config, where nothing stops its training early."""
    return [reading_of(base, settings), seed, settings.batch_rows, settings.trainer, TRAINING_VERSION]


def reading_of(base: BaseModelInUse, settings: MemorySettings) -> list[str | int]:
    """`base.reading`, and that a fleet's products are in bf16 there, where they are."""
    return [*base.reading, *(["mixed"] if format_of(base, settings) == "mixed" else [])]


def format_of(base: BaseModelInUse, settings: MemorySettings) -> str:
    """What memories train in on this base: `float32`, `mixed` or `bfloat16`."""
    return "mixed" if base.mixed and settings.trainer == "fleet" else base.dtype


def trained_by(base: BaseModelInUse, settings: MemorySettings, seed: int) -> str:
    """The fingerprint of these; empty where training may stop early: a memory depends on validation rows too then."""
    return "" if settings.early_stopping else fingerprint(conditions_of(base, settings, seed))


class Training:
    """The trainer a run's settings name, on one base."""

    def __init__(self, base: BaseModelInUse, settings: MemorySettings, seed: int) -> None:
        """`settings.trainer` on `base`; all randomness comes from `seed` and the users' ids."""
        self._base, self._settings, self._seed = base, settings, seed
        self._fleet = None
        if settings.trainer == "fleet":
            self._fleet = Fleet(base, settings.fleet, seed, settings.batch_rows, settings.early_stopping)

    def train(self, jobs: Sequence[Job], on_job: Callable[[int, int], None] = lambda done, jobs: None) -> list[Trained]:
        """One memory a job, in order; `on_job(done, jobs)` after each."""
        if self._fleet is not None:
            return self._fleet.train(jobs, on_job)
        trained = []
        how = self._seed, self._settings.batch_rows
        for job in jobs:
            stop = job.validation, self._settings.early_stopping
            trained.append(train_memory(self._base, job.user_id, job.examples, job.config, *how, *stop))
            on_job(len(trained), len(jobs))
        return trained

    def forget_rows(self) -> None:
        """Free what the trainer keeps of rows for the next trial: these users will not be trained again."""
        if self._fleet is not None:
            self._fleet.forget_rows()
