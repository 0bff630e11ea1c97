"""Scope `population`: one memory config for all users, found on pilots; random search and the fixed config beside it.

Every trial of every study trains the same pilots on the same rows, so a trial is the unit of an equal budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from imprint.base.fit import TRAINING_VERSION
from imprint.base.load import BaseModelInUse
from imprint.errors import ImprintError, NotEnoughDataError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.provenance import fingerprint
from imprint.search.journal import Journal, Trial
from imprint.search.objective import Pilot, evaluate_config
from imprint.search.settings import SearchSettings
from imprint.search.study import Study


class SearchResult(BaseModel):
    """What a search found: the best config of the TPE study, and how the others did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: str
    fingerprint: str
    pilots: int
    config: MemoryConfig
    objective_value: float
    tid: int
    best: dict[str, float | None]


def search_population(
    base: BaseModelInUse,
    pilots: Sequence[Pilot],
    settings: SearchSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
    on_trial: Callable[..., None] = lambda done, budget, best: None,
) -> tuple[SearchResult, list[Trial]]:
    """Run (or resume) the studies `tpe`, `random` and `fixed`; returns the result and every trial of all three.

    `on_trial(done, budget, best=...)` is called after each trial. The journals lie under `workspace` by the
    fingerprint of everything the trials depend on, so a changed setting never continues another search's trials.
    """
    if not pilots:
        raise NotEnoughDataError("search: no pilot users; next: set partition.pilot_users to at least 1.")
    memory.fixed_config.site_ranks(base.sites)  # a fixed config the base cannot carry is refused before any trial
    rows = [[pilot.user_id, pilot.fingerprint] for pilot in pilots]
    # budgets are no part of the name: more trials continue the same studies
    same = settings.model_dump(mode="json", exclude={"trials", "random_trials"})
    name = fingerprint(base.reading, same, memory, seed, rows, TRAINING_VERSION)
    directory = workspace / f"search-{name}"
    evaluate = _evaluator(base, pilots, seed, memory.batch_rows)
    random_trials = settings.trials if settings.random_trials is None else settings.random_trials
    layers = 1 + max(site.layer for site in base.sites)
    # a small base has fewer layers than the space has groups: each layer is a group of its own then
    space = settings.space.model_copy(update={"layer_groups": min(settings.space.layer_groups, layers)})
    studies, done = {}, 0
    for sampler, budget in (("tpe", settings.trials), ("random", random_trials)):
        journal = Journal(directory / f"{sampler}.jsonl")
        first = memory.fixed_config if sampler == "tpe" else None  # Bayesian search starts where one would without it
        study = Study(sampler, sampler, space, seed, journal, settings.startup_trials, first)  # type: ignore[arg-type]
        while study.remaining(budget) > 0:
            asked = study.ask(base.sites)
            study.tell(asked, **evaluate(asked.config))
            on_trial(
                done + budget - study.remaining(budget), settings.trials + random_trials + 1, best=_best(study.trials)
            )
        studies[sampler] = study.within(budget)
        done += budget
    studies["fixed"] = _fixed(Journal(directory / "fixed.jsonl"), memory.fixed_config, evaluate)
    on_trial(done + 1, done + 1, best=_best(studies["tpe"]))
    best = {study: _best(trials) for study, trials in studies.items()}
    return _result(name, len(pilots), studies["tpe"], best), [trial for trials in studies.values() for trial in trials]


def _evaluator(
    base: BaseModelInUse, pilots: Sequence[Pilot], seed: int, batch_rows: int
) -> Callable[[MemoryConfig], dict[str, Any]]:
    """A function from a config to the outcome of its trial; what Imprint or torch refuse becomes a failed trial."""

    def evaluate(config: MemoryConfig) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            losses = evaluate_config(base, pilots, config, seed, batch_rows)
            value = sum(losses.values()) / len(losses)
            if not math.isfinite(value):
                raise NotEnoughDataError(f"objective value {value}: training diverged")
        except (ImprintError, RuntimeError, ArithmeticError, ValueError, MemoryError) as error:
            failed = f"{type(error).__name__}: {error}"
            return {"status": "failed", "error": failed, "seconds": time.perf_counter() - started}
        return {
            "status": "ok",
            "objective_value": value,
            "trainable_parameters": config.trainable_parameters(base.sites),
            "per_user": losses,
            "seconds": time.perf_counter() - started,
        }

    return evaluate


def _fixed(journal: Journal, config: MemoryConfig, evaluate: Callable[[MemoryConfig], dict[str, Any]]) -> list[Trial]:
    if not journal.trials:
        outcome = evaluate(config)
        journal.append(Trial(study="fixed", tid=0, values={}, config=config.model_dump(mode="json"), **outcome))
    return journal.trials


def _best(trials: Sequence[Trial]) -> float | None:
    values = [trial.objective_value for trial in trials if trial.objective_value is not None]
    return min(values, default=None)


def _result(name: str, pilots: int, trials: Sequence[Trial], best: dict[str, float | None]) -> SearchResult:
    good = [trial for trial in trials if trial.objective_value is not None]
    if not good:
        raise NotEnoughDataError(
            f"search: all {len(trials)} trials failed or were refused; the last says: {trials[-1].error}. "
            "Next: narrow search.space, or look at the trials' journal."
        )
    winner = min(good, key=lambda trial: (trial.objective_value, trial.tid))
    return SearchResult(
        scope="population",
        fingerprint=name,
        pilots=pilots,
        config=MemoryConfig(**(winner.config or {})),
        objective_value=winner.objective_value,
        tid=winner.tid,
        best=best,
    )
