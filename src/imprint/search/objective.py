"""The objective: train a config on a study's users and score it on their validation rows; lower is better.

Its value is the mean over those users of nats per response token, at the strength chosen of those that are asked for:
a trained memory is scored at each of them. The population's users are pilots, who are never reported; a user's own
study has that user alone. Test rows never come here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

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
"""What fails a trial and not the search, as long as the device still works."""


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


PRIOR_TOKENS = 500
"""Response tokens that the population's loss counts for beside a study's own when a strength is chosen: docs/log.md."""


class Wanted(NamedTuple):
    """What a study wants to know of a config: its worth for these users at the best of these strengths.

    `population` has the pilots' mean loss in this config at each of them, where it is known.
    """

    pilots: Sequence[Pilot]
    config: MemoryConfig
    strengths: tuple[float, ...]
    population: Mapping[float, float] = MappingProxyType({})

    @property
    def tokens(self) -> int:
        """Response tokens of its users' validation rows."""
        return sum(row.response_tokens for pilot in self.pilots for row in pilot.validation)


class Scored(NamedTuple):
    """Validation loss by user at the strength that was chosen for them, and their mean loss at each."""

    strength: float
    per_user: dict[str, float]
    by_strength: dict[float, float]

    @property
    def value(self) -> float:
        """The objective value."""
        return sum(self.per_user.values()) / len(self.per_user)


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

    def scores(self, asked: Sequence[Wanted]) -> list[Scored]:
        """What each config's memories are worth at the best strength for its pilots together; all in one fleet."""
        from imprint.memory.trainee import Job

        jobs: dict[tuple[str, MemoryConfig], tuple[Pilot, set[float]]] = {}
        for pilots, config, strengths, _ in asked:
            for pilot in pilots:  # two studies that ask the same of the same user are answered once
                jobs.setdefault((pilot.user_id, config.as_trained), (pilot, set()))[1].update(strengths)
        trained = self._training.train(
            [Job(user_id, pilot.train, config, pilot.validation) for (user_id, config), (pilot, _) in jobs.items()]
        )
        memories: list[Memory] = []
        rows: list[Example] = []
        for one, (pilot, its_strengths) in zip(trained, jobs.values(), strict=True):
            self._fresh.append((pilot, one))
            for strength in sorted(its_strengths):
                memories += [one.memory.at_strength(strength)] * len(pilot.validation)
                rows += pilot.validation
        scored = iter(self._server.score(memories, rows))
        found = {
            (*key, strength): mean_loss([next(scored) for _ in pilot.validation])
            for key, (pilot, its_strengths) in jobs.items()
            for strength in sorted(its_strengths)
        }

        return [_at_the_best_strength(wanted, found) for wanted in asked]

    def outcomes(self, asked: Sequence[Wanted]) -> list[dict[str, Any]]:
        """The outcome of each trial; what Imprint or torch refuse becomes a failed trial, and the others go on."""
        started = time.perf_counter()
        self._fresh.clear()
        failed = ""
        try:
            scores = self.scores(asked)
        except FAILURES as error:
            self._require_a_device()
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
            {**self._outcome(wanted.config, mine), "seconds": seconds}
            for wanted, mine in zip(asked, scores, strict=True)
        ]

    def _require_a_device(self) -> None:
        """Raises what the device does, where it computes nothing any more: every trial that is left would fail too."""
        import torch

        torch.ones(1, device=next(self._base.model.parameters()).device).sum().item()

    def _outcome(self, config: MemoryConfig, scored: Scored) -> dict[str, Any]:
        if not math.isfinite(scored.value):
            return {"status": "failed", "error": f"objective value {scored.value}: training diverged"}
        size = config.trainable_parameters(self._base.sites)
        measured = {"objective_value": scored.value, "trainable_parameters": size, "per_user": scored.per_user}
        finite = {strength: loss for strength, loss in scored.by_strength.items() if math.isfinite(loss)}
        return {"status": "ok", "strength": scored.strength, "by_strength": finite, **measured}


def _at_the_best_strength(wanted: Wanted, found: Mapping[tuple[str, MemoryConfig, float], float]) -> Scored:
    """The lowest mean loss of its users, as if `PRIOR_TOKENS` of the population's were among their rows."""
    config = wanted.config.as_trained
    losses = {
        strength: {pilot.user_id: found[pilot.user_id, config, strength] for pilot in wanted.pilots}
        for strength in sorted(wanted.strengths, key=lambda strength: abs(strength - 1))  # of equals the nearest to 1
    }
    means = {strength: sum(mine.values()) / len(mine) for strength, mine in losses.items()}
    known = means.keys() <= wanted.population.keys()

    def judged(strength: float) -> float:
        if not math.isfinite(means[strength]):
            return math.inf
        prior = PRIOR_TOKENS * wanted.population[strength] if known else 0.0
        return wanted.tokens * means[strength] + prior

    chosen = min(means, key=judged)
    return Scored(chosen, losses[chosen], means)


def try_config(
    base: BaseModelInUse,
    pilots: Sequence[Pilot],
    config: MemoryConfig,
    memory: MemorySettings,
    seed: int,
    strengths: tuple[float, ...] = (),
) -> dict[str, Any]:
    """One config on these users: `strength`, `objective_value`, `trainable_parameters`, `per_user`, `seconds`.

    Scored at each of `strengths`, or at the config's own, of which it has the best.

    `TrialFailedError` where there is no objective value, which a search takes as a failed trial.
    """
    (outcome,) = Objective(base, memory, seed).outcomes([Wanted(pilots, config, strengths or (config.strength,))])
    outcome.pop("by_strength", None)
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
