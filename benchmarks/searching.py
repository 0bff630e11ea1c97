"""Search: every user's study in lockstep, against the same studies one after another.

The population's search comes first, as in a run; every user's study begins at its best points. Then:

    lockstep      all users' studies together, a round at a time
    same engine   a few of these users' studies, one after another, by the fleet; a CPU's fleet keeps one core busy then
    PEFT          the very trials of these users once more, each trained by stock PEFT + Trainer and scored: what one
                  would do without a fleet. Proposing points is not timed here, only for the others

All are compared by their seconds a trial, one user's memory trained and scored; the few stand for all. Once each: a
search is long, and its figure a mean over many trainings.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from machine import timed
from opponents import with_trainer
from sections import Given, Measured, progress
from setting import SEED, Setting, User

from imprint.memory.config import MemoryConfig
from imprint.search.journal import Trial
from imprint.search.objective import Pilot
from imprint.search.scopes import search_groups, search_population
from imprint.search.selection import best_of

ALONE, PEFT, LOCKSTEP = "one study after another, fleet", "one study after another, PEFT + Trainer", "lockstep"


@dataclass(frozen=True, slots=True)
class Found:
    """What some studies took and found: seconds, and per user the evaluated trials, in order."""

    seconds: float
    trials: Mapping[str, Sequence[Trial]]

    @property
    def per_trial(self) -> float:
        """Mean seconds a trial."""
        return self.seconds / sum(map(len, self.trials.values()))


class Agreement(NamedTuple):
    """How another way of searching compares with the lockstep, over the users of both."""

    same_choice: float
    loss_gap: float


def measure(given: Given) -> Measured:
    """Seconds a trial of all three, their ratios, and whether they choose the same configs."""
    setting, options = given.setting, given.options
    users = setting.users[: options.search_users]
    some = users[: 2 if options.quick else 4]
    home = Path(options.workspace) / "search"
    evaluated(setting.pilots[:1], [], setting, home / "warming-up", budget=1)
    with_trainer(setting, setting.fixed, some[0])

    progress.print(f"search: the population's, {len(setting.pilots)} pilots, {options.search_trials} trials a study")
    population, seconds = evaluated(setting.pilots, [], setting, home / "population")
    progress.print(f"search: {len(users)} users in lockstep, {options.search_trials} trials each")
    lockstep = studies(users, setting, home, "lockstep")
    progress.print(f"search: {len(some)} of the users, one after another")
    alone = [studies([user], setting, home, f"alone-{user.user_id}") for user in some]
    found = {
        ALONE: Found(sum(one.seconds for one in alone), {name: t for one in alone for name, t in one.trials.items()}),
        PEFT: _replayed(some, setting, lockstep),
        LOCKSTEP: lockstep,
    }
    per_model = seconds / sum(len(trial.per_user) for trial in population)
    return _measured(found, per_model, setting)


def evaluated(
    pilots: Sequence[User], users: Sequence[User], setting: Setting, folder: Path, budget: int | None = None
) -> tuple[list[Trial], float]:
    """The evaluated trials of the search (the users' where there are any, else the population's), and its seconds."""
    settings = setting.search.model_copy(update={"trials": budget or setting.search.trials})
    groups = {f"user/{user.user_id}": [_pilot(user, setting)] for user in users}
    mine = [_pilot(pilot, setting) for pilot in pilots]

    def search() -> list[Trial]:
        how = settings, setting.memory, SEED, folder
        population, trials = search_population(setting.base, mine, *how)
        return search_groups(setting.base, groups, population, *how, folder).trials if groups else trials

    taken, everything = timed(search, setting.device)
    trials = [trial for trial in everything if trial.status != "refused"]
    failed = [trial for trial in trials if trial.status == "failed"]
    if failed:
        raise SystemExit(
            f"search: {len(failed)} of {len(trials)} trials failed, and what they took says nothing; the first: "
            f"{failed[0].error}. Next: narrow search.space, or mend what failed."
        )
    return trials, taken


def studies(users: Sequence[User], setting: Setting, home: Path, name: str) -> Found:
    """The studies of these users in lockstep, begun at the population's best points, in a folder of their own."""
    shutil.copytree(home / "population", home / name)  # the population's journal: its trials are not run again
    trials, seconds = evaluated(setting.pilots, users, setting, home / name)
    by_user = {user.user_id: [trial for trial in trials if user.user_id in trial.per_user] for user in users}
    return Found(seconds, by_user)


def _replayed(users: Sequence[User], setting: Setting, lockstep: Found) -> Found:
    """Every trial that the lockstep made of these users, by stock PEFT + Trainer, with the loss that it finds."""
    seconds, trials = 0.0, dict[str, list[Trial]]()
    for user in users:
        progress.print(f"search: the trials of {user.user_id}, by PEFT + Trainer")
        pilot = _pilot(user, setting)
        for trial in lockstep.trials[user.user_id]:
            same = user._replace(examples=list(pilot.train))
            run = with_trainer(setting, _config(trial), same, pilot.validation)
            seconds += run.seconds
            trials.setdefault(user.user_id, []).append(trial.model_copy(update={"objective_value": run.scored}))
    return Found(seconds, trials)


def _pilot(user: User, setting: Setting) -> Pilot:
    """The user as a search sees them: at most so many of their latest rows."""
    search = setting.search
    train = user.examples[-(search.max_train_rows or len(user.examples)) :]
    return Pilot(user.user_id, train, user.validation[-(search.max_validation_rows or 0) :])


def _config(trial: Trial) -> MemoryConfig:
    return MemoryConfig(**(trial.config or {}))


def agreement(
    one: Mapping[str, Sequence[Trial]], lockstep: Mapping[str, Sequence[Trial]], min_gain: float
) -> Agreement:
    """Share of users who get the same config, and the largest relative difference between losses of one config.

    Who gets which config is what a run's rule with this `min_gain` says. A trial whose config the lockstep did not ask
    for at that place has no counterpart, and says nothing of losses.
    """
    same, gaps = 0, [0.0]
    for user_id, trials in one.items():
        theirs = lockstep[user_id]
        same += best_of(trials, min_gain).config == best_of(theirs, min_gain).config
        pairs = [(a, b) for a, b in zip(trials, theirs, strict=True) if a.config == b.config]
        gaps += [abs(a.objective_value / b.objective_value - 1) for a, b in pairs]  # type: ignore[operator]
    return Agreement(same / len(one), max(gaps))


def _measured(found: Mapping[str, Found], per_model: float, setting: Setting) -> Measured:
    lockstep = found[LOCKSTEP]
    gain = setting.search.min_gain
    agrees = {name: agreement(one.trials, lockstep.trials, gain) for name, one in found.items() if name != LOCKSTEP}
    numbers: dict[str, Any] = {
        "trials_ratio": found[PEFT].per_trial / lockstep.per_trial,
        "trials_ratio_same_engine": found[ALONE].per_trial / lockstep.per_trial,
        "trials_per_hour": 3600 / lockstep.per_trial,
        "user_over_population": lockstep.per_trial / per_model,
        "search_same_choice": {name: one.same_choice for name, one in agrees.items()},
        "search_loss_gap": {name: one.loss_gap for name, one in agrees.items()},
        "search_seconds_per_trial": {name: one.per_trial for name, one in found.items()},
        "search_users": {name: len(one.trials) for name, one in found.items()},
        "search_trials": setting.search.trials,
        "population_seconds_per_model": per_model,
    }
    lines = []
    for name, one in found.items():
        users, trials = len(one.trials), sum(map(len, one.trials.values()))
        remark = f"{3600 / one.per_trial:,.0f} trials an hour; from {users} users, {trials} trials"
        if one is not lockstep:
            same, gap = agrees[name]
            remark = f"lockstep is {one.per_trial / lockstep.per_trial:.2f} times as fast; {remark}"
            remark += f"; same choice for {same:.0%}, losses differ by at most {gap:.2%}"
        lines.append((f"search: {name}", f"{one.per_trial:.3f} s a trial", remark))
    against = f"a user's trial takes {lockstep.per_trial / per_model:.2f} times as long"
    return Measured([*lines, ("search: the population's", f"{per_model:.3f} s a memory", against)], numbers)
