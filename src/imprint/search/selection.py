"""Which of a study's trials is chosen: the population's by what surely gains, others' if it gains enough."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from pydantic import BaseModel, ConfigDict

from imprint.errors import NotEnoughDataError
from imprint.memory.config import MemoryConfig
from imprint.search.journal import Trial


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


def best_of(trials: Sequence[Trial], min_gain: float = 0.0) -> Choice:
    """The lowest objective value; the first good trial's unless that is at least `min_gain` above the lowest."""
    ranked = sorted(_some_good(trials), key=lambda trial: (trial.objective_value, trial.tid))
    best, first = ranked[0], good(trials)[0]
    if first.objective_value < best.objective_value + min_gain:  # type: ignore[operator]
        best = first
    return _choice(best)


def best_in(config: MemoryConfig, trials: Sequence[Trial]) -> Trial | None:
    """The good trial of this config at the strength that is best for its users, or None."""
    its = [trial for trial in good(trials) if _config_of(trial).as_trained == config.as_trained]
    return min(its, key=lambda trial: trial.objective_value, default=None)  # type: ignore[arg-type, return-value]


def surest_of(trials: Sequence[Trial], known: Trial | None, standard_errors: float) -> Choice:
    """The first of `surest_first`."""
    return _choice(surest_first(_some_good(trials), known, standard_errors)[0])


def surest_first(trials: Sequence[Trial], known: Trial | None, standard_errors: float) -> list[Trial]:
    """Good trials by their upper bound on the loss, the lowest first.

    The bound is the mean difference to a `known` trial of the same users plus so many standard errors of that mean over
    the users: what one or two of a few pilots gain is no reason to leave a known config. The one-standard-error rule
    (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3) likewise takes the known where the rest
    is within chance. Without a known trial the mean alone counts.
    """

    def bound(trial: Trial) -> tuple[float, int]:
        if known is None:
            return float(trial.objective_value), trial.tid  # type: ignore[arg-type]
        differences = [loss - known.per_user[user_id] for user_id, loss in trial.per_user.items()]
        mean, error = _mean_and_its_error(differences)
        return mean + standard_errors * error, trial.tid

    return sorted(good(trials), key=bound)


def distinct(trials: Sequence[Trial], count: int) -> dict[MemoryConfig, Trial]:
    """The first configs, none twice, with their trials: whoever begins there chooses a strength of their own."""
    first: dict[MemoryConfig, Trial] = {}
    for trial in trials:
        first.setdefault(_config_of(trial).as_trained, trial)
    return dict(islice(first.items(), count))


def first_and_best(trials: Sequence[Trial], min_gain: float) -> set[MemoryConfig]:
    """What a study began at, and what it would choose by now, as trained; nothing before a trial was good."""
    if not good(trials):
        return set()
    return configs_of(good(trials)[:1]) | {best_of(trials, min_gain).config.as_trained}


def configs_of(trials: Sequence[Trial]) -> set[MemoryConfig]:
    """The configs of those that were not refused, as trained."""
    return {_config_of(trial).as_trained for trial in trials if trial.config}


def good(trials: Sequence[Trial]) -> list[Trial]:
    """Those that were neither refused nor failed."""
    return [trial for trial in trials if trial.objective_value is not None]


def _some_good(trials: Sequence[Trial]) -> list[Trial]:
    if not good(trials):
        raise NotEnoughDataError(
            f"search: all {len(trials)} trials failed or were refused; the last says: {trials[-1].error}. "
            "Next: narrow search.space, or look at the trials' journal."
        )
    return good(trials)


def _config_of(trial: Trial) -> MemoryConfig:
    return MemoryConfig(**(trial.config or {}))


def _choice(trial: Trial) -> Choice:
    return Choice(study=trial.study, tid=trial.tid, config=_config_of(trial), objective_value=trial.objective_value)


def _mean_and_its_error(values: Sequence[float]) -> tuple[float, float]:
    from math import sqrt
    from statistics import fmean, stdev

    return fmean(values), stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
