"""A study that asks hyperopt for points and tells it results, with a journal as its only state.

The seed of a point depends on its number alone, so a study that was killed and resumed proposes what an uninterrupted
one would have. `fmin` can do neither: its resume restarts the random generator, and its pickle is not written whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from imprint.base.sites import Site
from imprint.errors import MemoryConfigError, SettingsError
from imprint.memory.config import MemoryConfig
from imprint.provenance import seed_for
from imprint.search.journal import Journal, Trial
from imprint.search.settings import SpaceSettings
from imprint.search.space import hyperopt_space, memory_config, point_of

Sampler = Literal["tpe", "random"]

REFUSALS_PER_TRIAL = 20
"""Proposals without a valid config a study may make for each trial, before its space is called unusable."""


class Asked(NamedTuple):
    """A point to be evaluated."""

    tid: int
    values: dict[str, list[int | float]]
    config: MemoryConfig


class Study:
    """One search by one sampler. `ask` a config, evaluate it, `tell` the outcome; repeat while `remaining`."""

    def __init__(
        self,
        name: str,
        sampler: Sampler,
        space: SpaceSettings,
        seed: int,
        journal: Journal,
        startup_trials: int = 6,
        first: Sequence[MemoryConfig] = (),
    ) -> None:
        """A study over `space`, continuing whatever `journal` already holds.

        Configs in `first` are proposed before anything is drawn, those that lie in the space: a study that begins at
        known configs can only improve on them.
        """
        from hyperopt.base import Domain

        self.name, self.sampler, self.space, self.seed = name, sampler, space, seed
        self.journal, self.startup_trials = journal, startup_trials
        self._first = [point for config in first if (point := point_of(config, space)) is not None]
        self._domain = Domain(lambda point: None, hyperopt_space(space))

    @property
    def trials(self) -> list[Trial]:
        """All trials so far, refused and failed ones among them, by number."""
        return self.journal.of(self.name)

    def remaining(self, budget: int) -> int:
        """Trials still to evaluate: refused points do not use up the budget, failed ones do."""
        return budget - sum(trial.status != "refused" for trial in self.trials)

    def within(self, budget: int) -> list[Trial]:
        """The trials up to the `budget`-th evaluated one: those a journal would hold that never had a larger budget."""
        kept: list[Trial] = []
        for trial in self.trials:
            if budget == 0:
                break
            kept.append(trial)
            budget -= trial.status != "refused"
        return kept

    def ask(self, sites: Sequence[Site] = ()) -> Asked:
        """The next config that is valid, and that a base model of these `sites` can carry.

        An invalid point is refused, written down, and never trained.
        """
        for _ in range(REFUSALS_PER_TRIAL):
            tid = len(self.trials)
            values = self._propose(tid)
            try:
                config = memory_config(values, self.space)
                if sites:
                    config.site_ranks(sites)
                return Asked(tid, values, config)
            except (MemoryConfigError, ValueError) as error:
                reason = " ".join(str(error).split())
                self.journal.add(
                    Trial(study=self.name, tid=tid, values=values, config=None, status="refused", error=reason)
                )
        raise SettingsError(
            f"search.space: {REFUSALS_PER_TRIAL} proposals in a row were no valid memory config; "
            f"the last: {reason}. Next: allow more ranks above 0, and targets that the base has."
        )

    def tell(self, asked: Asked, strength: float | None = None, **outcome: Any) -> Trial:
        """Record what came of a point: `status`, and for a good one `objective_value` and what else was measured.

        `strength` is the one at which it was measured, if not the config's own; the trial's config has it.
        """
        config = asked.config.model_dump(mode="json")
        if strength is not None:
            config["strength"] = strength
        trial = Trial(study=self.name, tid=asked.tid, values=asked.values, config=config, **outcome)
        self.journal.add(trial)
        return trial

    def _propose(self, tid: int) -> dict[str, list[int | float]]:
        if tid < len(self._first):
            return self._first[tid]
        from functools import partial

        from hyperopt import rand, tpe

        suggest = (
            partial(tpe.suggest, n_startup_jobs=self.startup_trials, verbose=False)
            if self.sampler == "tpe"
            else rand.suggest
        )
        seed = seed_for(self.seed, self.name, tid) % 2**32
        (document,) = suggest([tid], self._domain, self._hyperopt_trials(), seed)
        values = document["misc"]["vals"]
        # `or 0`: a place that was rounded from below is -0.0
        return {
            label: [getattr(one, "item", lambda one=one: one)() or 0 for one in value]
            for label, value in values.items()
        }

    def _hyperopt_trials(self) -> Any:
        from hyperopt import JOB_STATE_DONE, Trials

        trials, documents = Trials(), []
        for trial in self.trials:
            vals = {label: list(value) for label, value in trial.values.items()}
            idxs = {label: [trial.tid] if value else [] for label, value in vals.items()}
            misc = {"tid": trial.tid, "cmd": self._domain.cmd, "workdir": None, "vals": vals, "idxs": idxs}
            good = trial.status == "ok"
            result = {"status": "ok", "loss": trial.objective_value} if good else {"status": "fail"}
            (document,) = trials.new_trial_docs([trial.tid], [None], [result], [misc])
            document["state"] = JOB_STATE_DONE
            documents.append(document)
        if documents:
            trials.insert_trial_docs(documents)
        trials.refresh()
        return trials


class FixedStudy(Study):
    """A study that asks for one known config, whether it lies in the space or not."""

    def __init__(self, name: str, config: MemoryConfig, journal: Journal) -> None:
        """A study of `config` alone."""
        self.name, self.journal, self._config = name, journal, config

    def ask(self, sites: Sequence[Site] = ()) -> Asked:
        """The config."""
        return Asked(len(self.trials), {}, self._config)
