"""Training: the fleet against stock PEFT + Trainer and against a hand-written PEFT loop, in turns.

The opponents train a few of the users, one at a time, and are compared by their seconds a user; the fleet trains all of
them at once. A round is each contender once, and the fleet, which takes some seconds alone, three times, each time
built anew, so that nothing it keeps between calls helps it.

A machine that is shared with others is not equally fast for long. So the product rate that a training of the fleet is
held against is measured just before it and just after, over a second each. Its fastest call of the whole run, which a
fleet of some seconds meets as rarely as a product of some seconds does, is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import fmean, median

from flops import necessary_flops
from machine import steady_rate, timed
from opponents import Run, in_bf16, is_bf16, with_loop, with_trainer
from sections import Given, Measured, progress
from setting import SEED, Setting, User

from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet
from imprint.memory.trainee import Job

TRAINER, FLEET = "PEFT + Trainer", "fleet"
LOOP_FP32, LOOP_BF16 = "PEFT loop, fp32", "PEFT loop, bf16"
OneUser = Callable[[Setting, MemoryConfig, User], Run]


@dataclass(slots=True)
class Contender:
    """What one way of training took: seconds a user (a figure a user, or a training of the fleet), and final losses.

    `beside` has the machine's product rate beside each figure, in FLOP/s, where it was measured.
    """

    seconds: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)
    beside: list[float] = field(default_factory=list)

    def add(self, seconds: Sequence[float], losses: dict[str, float]) -> None:
        """One round: seconds a user, and final loss by user."""
        self.seconds += seconds
        self.rounds.append(fmean(seconds))
        self.losses.update(losses)

    @property
    def per_user(self) -> float:
        """Median seconds a user."""
        return median(self.seconds)


def measure(given: Given) -> Measured:
    """Both training rows: the fixed config, and one of the kind that the search picks."""
    setting, rates = given.setting, given.rates
    fixed = _side_by_side(given, setting.fixed, "rank 8 everywhere")
    searched = _side_by_side(given, setting.searched, "as searched")
    loop, searched_loop = _best_loop(fixed), _best_loop(searched)
    needed = [_necessary(setting, config) for config in (setting.fixed, setting.searched)]
    shares = [share_beside(*both) for both in zip(needed, (fixed[FLEET], searched[FLEET]), strict=True)]
    of_fastest = needed[0] / fixed[FLEET].per_user / rates.best.rate
    gap = max(_loss_gap(fixed), _loss_gap(searched))
    numbers = {
        "train_ratio_vs_trainer": fixed[TRAINER].per_user / fixed[FLEET].per_user,
        "train_ratio_vs_loop": fixed[loop].per_user / fixed[FLEET].per_user,
        "searched_ratio_vs_trainer": searched[TRAINER].per_user / searched[FLEET].per_user,
        "searched_ratio_vs_loop": searched[searched_loop].per_user / searched[FLEET].per_user,
        "loss_gap": gap,
        "flops_share": shares[0],
        "searched_flops_share": shares[1],
        "flops_share_of_fastest_call": of_fastest,
        "gflops_beside_fleet": [rate / 1e9 for rate in fixed[FLEET].beside],
        "loop": loop,
        "train_seconds_per_user": {name: one.per_user for name, one in fixed.items()},
        "fleet_seconds_per_user": fixed[FLEET].seconds,
        "train_rounds": {name: one.rounds for name, one in fixed.items()},
        "searched_seconds_per_user": {name: one.per_user for name, one in searched.items()},
        "searched_rounds": {name: one.rounds for name, one in searched.items()},
    }
    lines = [*_lines("training, rank 8", fixed), *_lines("training, as searched", searched)]
    lines += [
        ("largest gap in final loss", f"{gap:.2%}", "allowed: 1 %"),
        ("share of the product rate", f"{shares[0]:.2f}", _beside(fixed[FLEET])),
        ("share of its fastest call", f"{of_fastest:.2f}", f"{rates.best.rate / 1e9:.0f} GFLOP/s"),
        ("share, as searched", f"{shares[1]:.2f}", _beside(searched[FLEET])),
    ]
    lines.append(("the loop it is held against", loop, _why(given)))
    return Measured(lines, numbers)


def _side_by_side(given: Given, config: MemoryConfig, title: str) -> dict[str, Contender]:
    setting, quick = given.setting, given.options.quick
    some = setting.users[: 2 if quick else 8]
    alone = contenders(given)
    found = {name: Contender() for name in (*alone, FLEET)}
    for train in alone.values():  # what happens once a process is in nobody's time
        train(setting, config, some[0])
    _fleet(setting, config, setting.users[:1])
    product = given.rates.best, setting.device, 0.1 if quick else 1.0
    rounds = 1 if quick else 3
    for number in range(1, rounds + 1):
        for name, train in alone.items():
            progress.print(f"training, {title}: round {number} of {rounds}, {name}, {len(some)} users")
            runs = {user.user_id: train(setting, config, user) for user in some}
            found[name].add([run.seconds for run in runs.values()], {key: run.final_loss for key, run in runs.items()})
        progress.print(f"training, {title}: round {number} of {rounds}, {FLEET}, {len(setting.users)} users")
        taken, rates = list[float](), [steady_rate(*product)]
        for _ in range(1 if quick else 3):
            seconds, losses = _fleet(setting, config, setting.users)
            taken.append(seconds / len(setting.users))
            rates.append(steady_rate(*product))
        found[FLEET].add(taken, losses)
        found[FLEET].beside.extend(map(fmean, pairwise(rates)))
    return found


def contenders(given: Given) -> dict[str, OneUser]:
    """Name to what trains one user. The loop runs in the base's dtype, and in bf16 too where that is faster."""
    opponents: dict[str, OneUser] = {TRAINER: with_trainer}
    if is_bf16(given.setting):
        return {**opponents, LOOP_BF16: partial(with_loop, bf16=True)}
    opponents[LOOP_FP32] = partial(with_loop, bf16=False)
    if given.rates.bf16_pays:
        narrow = in_bf16(given.setting)
        opponents[LOOP_BF16] = lambda _, config, user: with_loop(narrow, config, user, bf16=True)
    return opponents


def _why(given: Given) -> str:
    """Why the loop ran in what it ran in."""
    rates = given.rates
    measured = f"products: bf16 {rates.bf16.rate / 1e9:.0f}, fp32 {rates.fp32.rate / 1e9:.0f} GFLOP/s"
    if is_bf16(given.setting):
        return f"the base is in bf16; {measured}"
    return (
        f"the faster of both; {measured}" if rates.bf16_pays else f"bf16 was not tried, it is slower here; {measured}"
    )


def _fleet(setting: Setting, config: MemoryConfig, users: Sequence[User]) -> tuple[float, dict[str, float]]:
    """Seconds for all users, and their final losses."""
    jobs = [Job(user.user_id, user.examples, config) for user in users]
    seconds, trained = timed(
        lambda: Fleet(setting.base, setting.fleet, SEED, setting.batch_rows).train(jobs), setting.device
    )
    return seconds, {one.memory.user_id: one.fitted[-1].final_loss for one in trained}


def _best_loop(found: dict[str, Contender]) -> str:
    return min((name for name in found if name not in (TRAINER, FLEET)), key=lambda name: found[name].per_user)


def _loss_gap(found: dict[str, Contender]) -> float:
    """Largest relative difference of the mean final loss between the fleet and an opponent, over the users of both."""
    gaps = []
    for name, one in found.items():
        if name != FLEET:
            ours = fmean(found[FLEET].losses[user] for user in one.losses)
            gaps.append(abs(ours - fmean(one.losses.values())) / fmean(one.losses.values()))
    return max(gaps)


def _necessary(setting: Setting, config: MemoryConfig) -> float:
    """Necessary operations a user (`flops`)."""
    return fmean(necessary_flops(setting.base, config, user.examples) for user in setting.users)


def share_beside(necessary: float, fleet: Contender) -> float:
    """Necessary operations a second as a share of the product rate beside them; the median of all trainings."""
    return median(necessary / seconds / rate for seconds, rate in zip(fleet.seconds, fleet.beside, strict=True))


def _beside(fleet: Contender) -> str:
    return f"of {min(fleet.beside) / 1e9:.0f} to {max(fleet.beside) / 1e9:.0f} GFLOP/s beside it"


def _lines(title: str, found: dict[str, Contender]) -> list[tuple[str, str, str]]:
    ours = found[FLEET]
    lines = []
    for name, one in found.items():
        ratios = [theirs / mine for theirs, mine in zip(one.rounds, ours.rounds, strict=True)]
        spread = f"; by round {min(ratios):.2f} to {max(ratios):.2f}"
        remark = "" if one is ours else f"fleet is {one.per_user / ours.per_user:.2f} times as fast{spread}"
        lines.append((f"{title}: {name}", f"{one.per_user:.3f} s a user", remark))
    return lines
