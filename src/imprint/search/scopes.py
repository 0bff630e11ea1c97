"""Who is searched for: the population, each cohort, or each user (design, section 6).

The population's studies always run first, on pilots: TPE, random search at the same budget, and the fixed config. In
scope `cohort` and `user` every cohort or user then has a TPE study of their own, begun at the population's best points;
all of these move in lockstep, and are judged on their users' own validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from imprint.base.fit import TRAINING_VERSION
from imprint.base.load import BaseModelInUse
from imprint.errors import NotEnoughDataError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.provenance import fingerprint
from imprint.search.journal import Journal, Trial
from imprint.search.lockstep import Searched, run_rounds
from imprint.search.objective import Objective, Pilot
from imprint.search.settings import SearchSettings
from imprint.search.study import FixedStudy, Study

OnTrial = Callable[..., None]


class Choice(BaseModel):
    """A config, and the trial it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    tid: int
    config: MemoryConfig
    objective_value: float

    def config_of(self, user_id: str) -> MemoryConfig:
        """The same for everybody."""
        return self.config


class SearchResult(BaseModel):
    """What a search found: the best config of each of the population's studies, and every user's own where searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scope: str
    fingerprint: str
    pilots: int
    population: dict[str, Choice]
    groups: dict[str, list[str]] = {}
    own: dict[str, Choice] = {}

    def config_of(self, user_id: str) -> MemoryConfig:
        """The config of a user's memory: their study's, else the population's."""
        return (self.own.get(user_id) or self.population["tpe"]).config


def run_search(
    base: BaseModelInUse,
    pilots: Sequence[Pilot],
    groups: Mapping[str, Sequence[Pilot]],
    settings: SearchSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
    on_trial: OnTrial = lambda done, budget, best: None,
) -> tuple[SearchResult, list[Trial], list[Trial]]:
    """Run (or resume) every study of the scope; returns the result, the population's trials, and all others.

    `groups` are the users of each further study by its name; none in scope `population`. `on_trial(done, budget,
    best=...)` is called after each round, with the population's best so far. Journals lie under `workspace` by the
    fingerprint of everything the trials depend on, so a changed setting never continues another search's trials.
    """
    if not pilots:
        raise NotEnoughDataError("search: no pilot users; next: set partition.pilot_users to at least 1.")
    memory.fixed_config.site_ranks(base.sites)  # a fixed config the base cannot carry is refused before any trial
    search = _Search(base, _within_layers(settings, base), memory, seed, workspace, on_trial, len(groups))
    name, studies = search.population(pilots)
    trials = [trial for one in studies.values() for trial in one.trials]
    own: dict[str, Choice] = {}
    further: list[Trial] = []
    if groups:
        start = _distinct_best([trial for trial in trials if trial.study != "random"], settings.warm_start)
        name, theirs = search.groups(groups, start, _lowest(studies["tpe"].trials))
        further = [trial for one in theirs.values() for trial in one.trials]
        # a group whose trials all failed keeps the population's config
        best = {group: best_of(one.trials, settings.min_gain) for group, one in theirs.items() if _good(one.trials)}
        own = {pilot.user_id: choice for group, choice in best.items() for pilot in groups[group]}
    result = SearchResult(
        scope=settings.scope,
        fingerprint=name,
        pilots=len(pilots),
        population={key: best_of(one.trials) for key, one in studies.items() if _good(one.trials) or key == "tpe"},
        groups={group: [pilot.user_id for pilot in members] for group, members in groups.items()},
        own=own,
    )
    return result, trials, further


def _within_layers(settings: SearchSettings, base: BaseModelInUse) -> SearchSettings:
    """A small base has fewer layers than the space has groups: each layer is a group of its own then."""
    layers = 1 + max(site.layer for site in base.sites)
    space = settings.space.model_copy(update={"layer_groups": min(settings.space.layer_groups, layers)})
    return settings.model_copy(update={"space": space})


class _Search:
    """What all studies of a search share."""

    def __init__(
        self,
        base: BaseModelInUse,
        settings: SearchSettings,
        memory: MemorySettings,
        seed: int,
        workspace: Path,
        on_trial: OnTrial,
        groups: int,
    ) -> None:
        self._base, self._settings, self._memory, self._seed = base, settings, memory, seed
        self._workspace, self._on_trial = workspace, on_trial
        self._objective = Objective(base, memory, seed)
        self._random_trials = settings.trials if settings.random_trials is None else settings.random_trials
        self._own_trials = settings.own_trials or settings.trials
        self._groups_budget = self._own_trials * groups
        self._budget = settings.trials + self._random_trials + 1 + self._groups_budget

    def population(self, pilots: Sequence[Pilot]) -> tuple[str, dict[str, Searched]]:
        """TPE, random search and the fixed config on the pilots, in lockstep; the search's name and its studies."""
        name, journal = self._journal("population", pilots)
        fixed, settings = self._memory.fixed_config, self._settings
        studies = {
            # Bayesian search starts where one would without it
            "tpe": Searched(self._study("tpe", journal, [fixed]), pilots, settings.trials),
            "random": Searched(self._study("random", journal, []), pilots, self._random_trials),
            "fixed": Searched(FixedStudy("fixed", fixed, journal), pilots, 1),
        }

        def count(done: int, _: int) -> None:
            self._on_trial(done, self._budget, best=_lowest(studies["tpe"].trials))

        run_rounds(list(studies.values()), self._objective, journal, self._base.sites, count)
        return name, studies

    def groups(
        self, groups: Mapping[str, Sequence[Pilot]], start: Sequence[MemoryConfig], best: float | None
    ) -> tuple[str, dict[str, Searched]]:
        """A TPE study a group, each begun at the configs `start`, all in lockstep; likewise."""
        members = [pilot for pilots in groups.values() for pilot in pilots]
        # a group's study is another where it begins elsewhere, or with others in the group
        sizes = {group: len(pilots) for group, pilots in groups.items()}
        begun_at = [config.model_dump(mode="json") for config in start]
        name, journal = self._journal(self._settings.scope, members, sizes, begun_at)
        studies = {
            group: Searched(self._study(group, journal, start), pilots, self._own_trials)
            for group, pilots in groups.items()
        }

        def count(done: int, _: int) -> None:
            self._on_trial(self._budget - self._groups_budget + done, self._budget, best=best)

        run_rounds(list(studies.values()), self._objective, journal, self._base.sites, count)
        return name, studies

    def _journal(self, scope: str, pilots: Sequence[Pilot], *also: Any) -> tuple[str, Journal]:
        # budgets are no part of the name: more trials continue the same studies; nor is how many users share a pass
        elsewhere = {"trials", "random_trials", "own_trials", "scope", "cohorts", "warm_start", "min_gain"}
        same = self._settings.model_dump(mode="json", exclude=elsewhere)
        how = self._memory.model_dump(mode="json", exclude={"fleet"}, exclude_none=True)
        rows = [[pilot.user_id, pilot.fingerprint] for pilot in pilots]
        name = fingerprint(self._base.reading, same, how, self._seed, rows, also, TRAINING_VERSION)
        return name, Journal(self._workspace / f"search-{name}" / f"{scope}.jsonl")

    def _study(self, name: str, journal: Journal, first: Sequence[MemoryConfig]) -> Study:
        settings = self._settings
        sampler: Literal["tpe", "random"] = "random" if name == "random" else "tpe"
        startup = settings.startup_trials if name in ("tpe", "random") else len(first)
        return Study(name, sampler, settings.space, self._seed, journal, startup, first)


def _good(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.objective_value is not None]


def _lowest(trials: Sequence[Trial]) -> float | None:
    return min((trial.objective_value for trial in _good(trials)), default=None)  # type: ignore[type-var]


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(_good(trials), key=lambda trial: (trial.objective_value, trial.tid))


def best_of(trials: Sequence[Trial], min_gain: float = 0.0) -> Choice:
    """The lowest objective value; the first good trial's unless that is at least `min_gain` above the lowest."""
    ranked = _ranked(trials)
    if not ranked:
        raise NotEnoughDataError(
            f"search: all {len(trials)} trials failed or were refused; the last says: {trials[-1].error}. "
            "Next: narrow search.space, or look at the trials' journal."
        )
    best, first = ranked[0], _good(trials)[0]
    if first.objective_value < best.objective_value + min_gain:  # type: ignore[operator]
        best = first
    config = MemoryConfig(**(best.config or {}))
    return Choice(study=best.study, tid=best.tid, config=config, objective_value=best.objective_value)


def _distinct_best(trials: Sequence[Trial], count: int) -> list[MemoryConfig]:
    """The best configs, none twice."""
    return list(dict.fromkeys(MemoryConfig(**(trial.config or {})) for trial in _ranked(trials)))[:count]
