"""Who is searched for: the population, each cohort, or each user.

The population's studies always run first, on pilots: TPE, random search at the same budget, and the fixed config. In
scope `cohort` and `user` every cohort or user then has a TPE study of their own, begun at the population's points.
These are searched shard by shard: those of a shard move in lockstep, judged on their users' own validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from imprint.base.fit import TRAINING_VERSION
from imprint.base.load import BaseModelInUse
from imprint.errors import NotEnoughDataError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.memory.training import reading_of, trained_by
from imprint.memory.tried import TriedMemories
from imprint.provenance import fingerprint
from imprint.search.journal import SEARCH_VERSION, Journal, Trial
from imprint.search.lockstep import Searched, run_rounds
from imprint.search.objective import Objective, Pilot
from imprint.search.selection import (
    Choice,
    best_in,
    best_of,
    configs_of,
    distinct,
    first_and_best,
    good,
    surest_first,
    surest_of,
)
from imprint.search.settings import SearchSettings
from imprint.search.study import FixedStudy, Study

if TYPE_CHECKING:
    from imprint.memory.trainer import Trained

OnTrial = Callable[..., None]

OWN_STRENGTH_ROWS = 6
"""Validation rows from which on a study's users have a strength of their own: with three it was noise (docs/log.md)."""


class SearchResult(BaseModel):
    """What the population's search found: the config of each of its studies, and where further studies begin.

    `start_by_strength` has for each config in `start` the pilots' mean loss at each strength.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: str
    fingerprint: str
    pilots: int
    population: dict[str, Choice]
    start: tuple[MemoryConfig, ...]
    start_by_strength: tuple[dict[float, float], ...] = ()


class Found(NamedTuple):
    """What further studies found: the fingerprint of their search, each one's choice, and all trials.

    A study whose trials all failed made no choice: its users keep the population's config.
    """

    fingerprint: str
    choices: dict[str, Choice]
    trials: list[Trial]


def search_population(
    base: BaseModelInUse,
    pilots: Sequence[Pilot],
    settings: SearchSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
    on_trial: OnTrial = lambda done, budget, best: None,
) -> tuple[SearchResult, list[Trial]]:
    """Run (or resume) the population's studies; returns what they found, and every trial.

    `on_trial(done, budget, best=...)` is called after each round, with TPE's best so far. Journals lie under
    `workspace` by the fingerprint of everything the trials depend on, so a changed setting never continues another
    search's trials.
    """
    if not pilots:
        raise NotEnoughDataError("search: no pilot users; next: set partition.pilot_users to at least 1.")
    memory.fixed_config.site_ranks(base.sites)  # a fixed config the base cannot carry is refused before any trial
    name, studies = _Search(base, settings, memory, seed, workspace).population(pilots, on_trial)
    trials = [trial for one in studies.values() for trial in one.trials]
    known = best_in(memory.fixed_config, trials)
    start = distinct(surest_first(studies["tpe"].trials, known, settings.standard_errors), settings.warm_start)
    result = SearchResult(
        scope=settings.scope,
        fingerprint=name,
        pilots=len(pilots),
        population={
            key: surest_of(one.trials, known, settings.standard_errors)
            for key, one in studies.items()
            if good(one.trials) or key == "tpe"
        },
        start=tuple(start),
        start_by_strength=tuple(trial.by_strength for trial in start.values()),
    )
    return result, trials


def search_groups(
    base: BaseModelInUse,
    groups: Mapping[str, Sequence[Pilot]],
    population: SearchResult,
    settings: SearchSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
    memory_workspace: Path,
    on_trial: OnTrial = lambda done, budget, best: None,
) -> Found:
    """Run (or resume) a study for each of `groups`, users by the study's name, all in lockstep.

    Each begins at the population's surest configs. Journals and `on_trial` as in `search_population`. Below
    `memory_workspace` are kept the memories of users that were trained on all their rows (`memory.tried`).
    """
    search = _Search(base, settings, memory, seed, workspace)
    name, studies = search.groups(groups, population, on_trial, memory_workspace)
    trials = [trial for one in studies.values() for trial in one.trials]
    choices = {key: best_of(one.trials, settings.min_gain) for key, one in studies.items() if good(one.trials)}
    return Found(name, choices, trials)


def _within_layers(settings: SearchSettings, base: BaseModelInUse) -> SearchSettings:
    """A small base has fewer layers than the space has groups: each layer is a group of its own then."""
    layers = 1 + max(site.layer for site in base.sites)
    space = settings.space.model_copy(update={"layer_groups": min(settings.space.layer_groups, layers)})
    return settings.model_copy(update={"space": space})


class _Search:
    """What all studies of a search share."""

    def __init__(
        self, base: BaseModelInUse, settings: SearchSettings, memory: MemorySettings, seed: int, workspace: Path
    ) -> None:
        self._base, self._settings, self._memory, self._seed = base, _within_layers(settings, base), memory, seed
        self._workspace = workspace
        # with the fixed config's own among them, the study that begins there cannot end worse
        self._strengths = tuple(dict.fromkeys((*settings.space.strengths, memory.fixed_config.strength)))

    def population(self, pilots: Sequence[Pilot], on_trial: OnTrial) -> tuple[str, dict[str, Searched]]:
        """TPE, random search and the fixed config on the pilots, in lockstep; the search's name and its studies."""
        name, journal = self._journal("population", pilots)
        fixed, settings = self._memory.fixed_config, self._settings
        random_trials = settings.trials if settings.random_trials is None else settings.random_trials
        studies = {
            # Bayesian search starts where one would without it
            "tpe": Searched(self._study("tpe", journal, [fixed]), pilots, settings.trials, self._strengths),
            "random": Searched(self._study("random", journal, []), pilots, random_trials, self._strengths),
            "fixed": Searched(FixedStudy("fixed", fixed, journal), pilots, 1),
        }

        def count(done: int, budget: int) -> None:
            on_trial(done, budget, best=_lowest(studies["tpe"].trials))

        objective = Objective(self._base, self._memory, self._seed)
        run_rounds(list(studies.values()), objective, journal, self._base.sites, count)
        return name, studies

    def groups(
        self,
        groups: Mapping[str, Sequence[Pilot]],
        population: SearchResult,
        on_trial: OnTrial,
        memory_workspace: Path,
    ) -> tuple[str, dict[str, Searched]]:
        """A TPE study a group, each begun at the population's surest configs, all in lockstep; likewise."""
        members = [pilot for pilots in groups.values() for pilot in pilots]
        # a group's study is another where it begins elsewhere, or with others in the group
        sizes = {group: len(pilots) for group, pilots in groups.items()}
        begun_at = [config.model_dump(mode="json") for config in population.start]
        begun_at.append({"strength": population.population["tpe"].config.strength})
        begun_at += [{str(strength): loss for strength, loss in one.items()} for one in population.start_by_strength]
        name, journal = self._journal(self._settings.scope, members, sizes, begun_at)
        trials = own_trials(self._settings)
        everybodys = (population.population["tpe"].config.strength,)
        by_strength = dict(zip(population.start, population.start_by_strength, strict=False))
        studies = {
            group: Searched(
                self._study(group, journal, population.start),
                pilots,
                trials,
                self._strengths if _enough(pilots) else everybodys,
                by_strength,
            )
            for group, pilots in groups.items()
        }

        def count(done: int, budget: int) -> None:
            on_trial(done, budget, best=population.population["tpe"].objective_value)

        tried, by = TriedMemories(memory_workspace, name), trained_by(self._base, self._memory, self._seed)

        def keep(pilot: Pilot, trained: Trained) -> None:
            if by and pilot.history:
                tried.keep(trained, pilot.history, by)

        held = {study: configs_of(one.trials) for study, one in studies.items()}

        def remove_unwanted() -> None:
            for study, one in studies.items():
                wanted = first_and_best(one.trials, self._settings.min_gain)
                for config in (held[study] | configs_of(one.trials[-1:])) - wanted:
                    for pilot in (pilot for pilot in one.pilots if by and pilot.history):
                        tried.remove(pilot.user_id, config)
                held[study] = wanted

        objective = Objective(self._base, self._memory, self._seed, keep)
        run_rounds(list(studies.values()), objective, journal, self._base.sites, count, remove_unwanted)
        return name, studies

    def _journal(self, scope: str, pilots: Sequence[Pilot], *also: Any) -> tuple[str, Journal]:
        # budgets are no part of the name: more trials continue the same studies; nor is how many users share a pass
        elsewhere = {"trials", "random_trials", "own_trials", "scope", "cohorts", "warm_start", "min_gain"}
        elsewhere |= {"standard_errors", "max_train_rows", "max_validation_rows"}  # rows: they are in the pilots'
        same = self._settings.model_dump(mode="json", exclude=elsewhere)
        how = self._memory.model_dump(mode="json", exclude={"fleet"}, exclude_none=True)
        rows = [[pilot.user_id, pilot.fingerprint] for pilot in pilots]
        reading = reading_of(self._base, self._memory)
        name = fingerprint(reading, same, how, self._seed, rows, also, TRAINING_VERSION, SEARCH_VERSION)
        return name, Journal(self._workspace / f"search-{name}" / f"{scope}.jsonl")

    def _study(self, name: str, journal: Journal, first: Sequence[MemoryConfig]) -> Study:
        settings = self._settings
        sampler: Literal["tpe", "random"] = "random" if name == "random" else "tpe"
        startup = settings.startup_trials if name in ("tpe", "random") else len(first)
        return Study(name, sampler, settings.space, self._seed, journal, startup, first)


def own_trials(settings: SearchSettings) -> int:
    """Trials of each user's or cohort's study."""
    return settings.own_trials or settings.trials


def _enough(pilots: Sequence[Pilot]) -> bool:
    return sum(len(pilot.validation) for pilot in pilots) >= OWN_STRENGTH_ROWS


def _lowest(trials: Sequence[Trial]) -> float | None:
    return min((trial.objective_value for trial in good(trials)), default=None)  # type: ignore[type-var]
