"""Many studies, one fleet: a round asks every study for one trial and trains all of them together.

Each study stays exact sequential TPE, because its next point is asked for only after its last was told; the hardware is
full, because there are many studies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from imprint.base.sites import Site
from imprint.memory.config import MemoryConfig
from imprint.search.journal import Journal, Trial
from imprint.search.objective import Objective, Pilot, Wanted
from imprint.search.study import Study


@dataclass(frozen=True, slots=True)
class Searched:
    """A study, whose users its trials are trained on, its budget of trials, and the strengths each is scored at.

    No strengths: each config's own. `population` has by config what the pilots' mean loss was at each strength.
    """

    study: Study
    pilots: Sequence[Pilot]
    budget: int
    strengths: tuple[float, ...] = ()
    population: Mapping[MemoryConfig, Mapping[float, float]] = field(default_factory=dict)

    @property
    def trials(self) -> list[Trial]:
        """The study's trials within its budget."""
        return self.study.within(self.budget)


def run_rounds(
    searched: Sequence[Searched],
    objective: Objective,
    journal: Journal,
    sites: Sequence[Site],
    on_trial: Callable[[int, int], None] = lambda done, trials: None,
    before_round_ends: Callable[[], None] = lambda: None,
) -> None:
    """Rounds until every study's budget is used up; each finished round is in `journal`, which all studies share.

    `before_round_ends()` is called when a round's trials are known, before the journal has them: after a kill in
    between, the round is done again, and so is this.
    """
    budget = sum(one.budget for one in searched)
    while True:
        left = sum(max(0, one.study.remaining(one.budget)) for one in searched)
        on_trial(budget - left, budget)
        if not left:
            return
        unfinished = [one for one in searched if one.study.remaining(one.budget) > 0]
        asked = [one.study.ask(sites) for one in unfinished]
        wanted = [
            Wanted(
                one.pilots,
                point.config,
                one.strengths or (point.config.strength,),
                one.population.get(point.config.as_trained, {}),
            )
            for one, point in zip(unfinished, asked, strict=True)
        ]
        for one, point, outcome in zip(unfinished, asked, objective.outcomes(wanted), strict=True):
            one.study.tell(point, **outcome)
        before_round_ends()
        journal.end_round()
