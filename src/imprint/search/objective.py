"""The objective: train a config on a study's users and score it on their validation rows; lower is better.

Its value is the mean over those users of nats per response token. The population's users are pilots, who are never
reported; a user's own study has that user alone. Test rows never come here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imprint.base.examples import Example, fingerprint_of_examples
from imprint.base.histories import IndexRow, read_histories, users_of
from imprint.base.load import BaseModelInUse
from imprint.base.loss import mean_loss
from imprint.errors import ImprintError, TrialFailedError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.provenance import fingerprint
from imprint.search.settings import SearchSettings

if TYPE_CHECKING:
    import pyarrow.dataset as pads

    from imprint.memory.trainer import Trained
    from imprint.memory.weights import Memory


FAILURES = (ImprintError, RuntimeError, ArithmeticError, ValueError, MemoryError)
"""What fails a trial and not the search."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """A user to search on: what a trial trains on, and what it is scored on.

    `history` is the fingerprint of the user's training split where `train` is all of it, else empty.
    """

    user_id: str
    train: Sequence[Example]
    validation: Sequence[Example]
    history: str = ""

    @property
    def fingerprint(self) -> str:
        """Names the text of all rows, not their ids, and which are for what: an edited row is another pilot."""
        return fingerprint(fingerprint_of_examples(self.train), fingerprint_of_examples(self.validation))


class Objective:
    """Trains configs on pilots and scores them, as many at once as are asked for."""

    def __init__(
        self,
        base: BaseModelInUse,
        memory: MemorySettings,
        seed: int,
        keep: Callable[[Pilot, Trained], None] = lambda pilot, trained: None,
    ) -> None:
        """On one base, with the trainer that `memory` names; `keep` is handed a round's memories, unless it failed."""
        from imprint.memory.serve import Server
        from imprint.memory.training import Training

        self._base, self._keep = base, keep
        self._fresh: list[tuple[Pilot, Trained]] = []
        self._training = Training(base, memory, seed)
        self._server = Server(base, memory.fleet.scoring_slots)

    def losses(self, asked: Sequence[tuple[Sequence[Pilot], MemoryConfig]]) -> list[dict[str, float]]:
        """Validation loss of each pilot's memory, by user, for every config asked with its pilots; in one fleet."""
        from imprint.memory.trainee import Job

        jobs: dict[tuple[str, MemoryConfig], tuple[Pilot, Job]] = {}
        for pilots, config in asked:
            for pilot in pilots:  # two studies that ask the same of the same user are answered once
                job = Job(pilot.user_id, pilot.train, config, pilot.validation)
                jobs.setdefault((pilot.user_id, config), (pilot, job))
        trained = self._training.train([job for _, job in jobs.values()])
        memories: list[Memory] = []
        rows: list[Example] = []
        for one, (pilot, _) in zip(trained, jobs.values(), strict=True):
            self._fresh.append((pilot, one))
            memories += [one.memory] * len(pilot.validation)
            rows += pilot.validation
        scored = iter(self._server.score(memories, rows))
        found = {key: mean_loss([next(scored) for _ in pilot.validation]) for key, (pilot, _) in jobs.items()}
        return [{pilot.user_id: found[pilot.user_id, config] for pilot in pilots} for pilots, config in asked]

    def outcomes(self, asked: Sequence[tuple[Sequence[Pilot], MemoryConfig]]) -> list[dict[str, Any]]:
        """The outcome of each trial; what Imprint or torch refuse becomes a failed trial, and the others go on."""
        started = time.perf_counter()
        self._fresh.clear()
        failed = ""
        try:
            losses = self.losses(asked)
        except FAILURES as error:
            failed = f"{type(error).__name__}: {error}"
        if failed and len(asked) == 1:
            return [{"status": "failed", "error": failed, "seconds": time.perf_counter() - started}]
        if failed:  # tried again only here, where the error no longer holds what the round had in memory
            half = len(asked) // 2
            return self.outcomes(asked[:half]) + self.outcomes(asked[half:])
        for made in self._fresh:  # what fails here is the disk's or the bucket's failure, and no trial's
            self._keep(*made)
        seconds = (time.perf_counter() - started) / len(asked)
        return [
            {**self._outcome(config, mine), "seconds": seconds} for (_, config), mine in zip(asked, losses, strict=True)
        ]

    def _outcome(self, config: MemoryConfig, losses: dict[str, float]) -> dict[str, Any]:
        value = sum(losses.values()) / len(losses)
        if not math.isfinite(value):
            return {"status": "failed", "error": f"objective value {value}: training diverged"}
        size = config.trainable_parameters(self._base.sites)
        return {"status": "ok", "objective_value": value, "trainable_parameters": size, "per_user": losses}


def try_config(
    base: BaseModelInUse, pilots: Sequence[Pilot], config: MemoryConfig, memory: MemorySettings, seed: int
) -> dict[str, Any]:
    """One config on these users: `objective_value`, `trainable_parameters`, `per_user`, `seconds`.

    `TrialFailedError` where there is no objective value, which a search takes as a failed trial.
    """
    (outcome,) = Objective(base, memory, seed).outcomes([(pilots, config)])
    if outcome.pop("status") != "ok":
        raise TrialFailedError(
            f"the config {config.model_dump_json()} has no objective value: {outcome['error']}. "
            "Next: try another one (trial in conf/base/parameters_trial.yml)."
        )
    return outcome


def read_pilots(
    base: BaseModelInUse, table: pads.Dataset, index: Sequence[IndexRow], settings: SearchSettings, *roles: str
) -> list[Pilot]:
    """The users of an index in these roles, each with their latest rows of the train and validation splits."""
    users = users_of(index, *roles)
    train = read_histories(table, users, "train")
    validation = read_histories(table, users, "validation")
    encode = base.encoder.examples
    pilots = []
    for user in users:
        rows, judged = train[user["user_id"]], validation[user["user_id"]]
        most = settings.max_train_rows or len(rows)
        latest = encode(rows[-most:]), encode(judged[-(settings.max_validation_rows or 0) :])
        pilots.append(Pilot(user["user_id"], *latest, user["fingerprint"] if len(rows) <= most else ""))
    return pilots
