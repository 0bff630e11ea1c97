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
    best=...)` is called after each round. Journals lie under `workspace` by the fingerprint of everything the trials
    depend on, so a changed setting never continues another search's trials.
    """
    if not pilots:
        raise NotEnoughDataError("search: no pilot users; next: set partition.pilot_users to at least 1.")
    memory.fixed_config.site_ranks(base.sites)  # a fixed config the base cannot carry is refused before any trial
    layers = 1 + max(site.layer for site in base.sites)
    # a small base has fewer layers than the space has groups: each layer is a group of its own then
    space = settings.space.model_copy(update={"layer_groups": min(settings.space.layer_groups, layers)})
    settings = settings.model_copy(update={"space": space})
    objective = Objective(base, memory, seed)
    random_trials = settings.trials if settings.random_trials is None else settings.random_trials
    total = settings.trials + random_trials + 1 + len(groups) * settings.trials

    name = _name(base, settings, memory, seed, pilots)
    journal = Journal(workspace / f"search-{name}" / "population.jsonl")
    fixed = memory.fixed_config
    searched = {
        # Bayesian search starts where one would without it
        "tpe": Searched(_study("tpe", settings, seed, journal, [fixed]), pilots, settings.trials),
        "random": Searched(_study("random", settings, seed, journal, []), pilots, random_trials),
        "fixed": Searched(FixedStudy("fixed", fixed, journal), pilots, 1),
    }
    run_rounds(
        list(searched.values()),
        objective,
        journal,
        base.sites,
        lambda done, _: on_trial(done, total, best=_lowest(searched["tpe"].trials)),
    )
    trials = [trial for one in searched.values() for trial in one.trials]
    population = {study: _best(one.trials) for study, one in searched.items() if _good(one.trials) or study == "tpe"}

    start = _distinct_best([trial for trial in trials if trial.study != "random"], settings.warm_start)
    own: dict[str, Choice] = {}
    further: list[Trial] = []
    if groups:
        everybody = [pilot for members in groups.values() for pilot in members]
        name = _name(base, settings, memory, seed, [*pilots, *everybody], {k: len(v) for k, v in groups.items()})
        book = Journal(workspace / f"search-{name}" / f"{settings.scope}.jsonl")
        theirs = {
            group: Searched(_study(group, settings, seed, book, start), members, settings.trials)
            for group, members in groups.items()
        }
        before = total - len(groups) * settings.trials
        run_rounds(
            list(theirs.values()),
            objective,
            book,
            base.sites,
            lambda done, _: on_trial(before + done, total, best=_lowest(searched["tpe"].trials)),
        )
        for group, one in theirs.items():
            further += one.trials
            if _good(one.trials):  # a group whose trials all failed keeps the population's config
                own |= {pilot.user_id: _best(one.trials) for pilot in groups[group]}
    members_of = {group: [pilot.user_id for pilot in members] for group, members in groups.items()}
    result = SearchResult(
        scope=settings.scope,
        fingerprint=name,
        pilots=len(pilots),
        population=population,
        groups=members_of,
        own=own,
    )
    return result, trials, further


def _name(
    base: BaseModelInUse,
    settings: SearchSettings,
    memory: MemorySettings,
    seed: int,
    pilots: Sequence[Pilot],
    groups: Any = None,
) -> str:
    # budgets are no part of the name: more trials continue the same studies; nor is how many users share a pass
    same = settings.model_dump(mode="json", exclude={"trials", "random_trials", "scope", "cohorts"})
    how = memory.model_dump(mode="json", exclude={"fleet"})
    rows = [[pilot.user_id, pilot.fingerprint] for pilot in pilots]
    return fingerprint(base.reading, same, how, seed, rows, groups, TRAINING_VERSION)


def _study(name: str, settings: SearchSettings, seed: int, journal: Journal, first: Sequence[MemoryConfig]) -> Study:
    sampler: Literal["tpe", "random"] = "random" if name == "random" else "tpe"
    startup = settings.startup_trials if name in ("tpe", "random") else len(first)
    return Study(name, sampler, settings.space, seed, journal, startup, first)


def _good(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.objective_value is not None]


def _lowest(trials: Sequence[Trial]) -> float | None:
    return min((trial.objective_value for trial in _good(trials)), default=None)  # type: ignore[type-var]


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(_good(trials), key=lambda trial: (trial.objective_value, trial.tid))


def _best(trials: Sequence[Trial]) -> Choice:
    ranked = _ranked(trials)
    if not ranked:
        raise NotEnoughDataError(
            f"search: all {len(trials)} trials failed or were refused; the last says: {trials[-1].error}. "
            "Next: narrow search.space, or look at the trials' journal."
        )
    best = ranked[0]
    config = MemoryConfig(**(best.config or {}))
    return Choice(study=best.study, tid=best.tid, config=config, objective_value=best.objective_value)


def _distinct_best(trials: Sequence[Trial], count: int) -> list[MemoryConfig]:
    """The best configs, none twice."""
    return list(dict.fromkeys(MemoryConfig(**(trial.config or {})) for trial in _ranked(trials)))[:count]
