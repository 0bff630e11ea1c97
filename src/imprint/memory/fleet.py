"""Fleet training: many users' memories in one forward and backward pass over the frozen base.

    jobs ──► crew (in training) ──► slots of one step ──► one pass, one AdamW step by row ──► back to the crew
                 ▲ the moment one is done, the next job      chosen by length: little padding

What a user gets does not depend on the others: their rows come in the order drawn from (seed, user_id), the loss of a
slot is the mean over its own response tokens, clipping, schedule and moments are its own. The one-user trainer
(`trainer.train_memory`) is the oracle: same plan, same steps, same result. With products in bf16 company decides where
a sum is rounded, and so the last digits (decision 0025).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from imprint.base.allocator import give_back_memory
from imprint.base.examples import Example
from imprint.base.fused import fused
from imprint.base.load import BaseModelInUse
from imprint.base.loss import nats_of
from imprint.base.trunk import Trunk, layers_for
from imprint.memory.forked import ForkedLane
from imprint.memory.inputs import HalfInputs
from imprint.memory.lanes import Stop, in_lanes, lanes_of
from imprint.memory.room import Room, bytes_for_steps, room_on_card, room_on_cpu
from imprint.memory.settings import EarlyStopping, FleetSettings
from imprint.memory.slots import Slots
from imprint.memory.stack import stacked
from imprint.memory.trainee import Finished, Job, Trainee
from imprint.memory.trainer import JUDGED_TOGETHER, Trained

log = logging.getLogger(__name__)

OnJob = Callable[[int, int], None]


class Fleet:
    """Trains jobs on one base. What it keeps between calls is the base's own: inputs of layers below any memory.

    A CPU's cores are lanes that share the base's weights, each with a crew of its own.
    """

    def __init__(
        self,
        base: BaseModelInUse,
        settings: FleetSettings,
        seed: int,
        batch_rows: int,
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        """A fleet on `base`; `batch_rows` is the rows of one user's step."""
        self._trainee = partial(Trainee, base=base, seed=seed, batch_rows=batch_rows, early_stopping=early_stopping)
        bases = lanes_of(base)
        first, *others = (_Lane(one, self._trainee, settings, len(bases)) for one in bases)
        self._lanes: list[_Lane | ForkedLane] = [first, *map(ForkedLane, others)]

    def train(self, jobs: Sequence[Job], on_job: OnJob = lambda done, jobs: None) -> list[Trained]:
        """One memory a job, in order; `on_job(done, jobs)` whenever one is finished.

        `MemoryConfigError` before any work if a history has fewer rows than episodes, or the base not the sites.
        """
        trainees = [self._trainee(place, job) for place, job in enumerate(jobs)]
        done, lock = 0, Lock()

        def count() -> None:
            nonlocal done
            with lock:
                done += 1
                on_job(done, len(jobs))

        started = time.perf_counter()
        shares = divided([trainee.work for trainee in trainees], len(self._lanes))
        work = [(lane, [(place, jobs[place]) for place in its]) for lane, its in zip(self._lanes, shares, strict=True)]
        for lane, its_jobs in work:
            if its_jobs:
                lane.start()
        parts = in_lanes(lambda one, stop: one[0].work(one[1], count, stop), work)
        finished = dict(pair for its, part in zip(shares, parts, strict=True) for pair in zip(its, part, strict=True))
        rate = (time.perf_counter() - started) / max(1, sum(one.tokens for one in finished.values()))
        return [trainee.trained(finished[trainee.place], rate) for trainee in trainees]

    def forget_rows(self) -> None:
        """Drop what is kept of the rows trained on so far, where these users will not be trained again."""
        for lane in self._lanes:
            lane.forget_rows()


class _Lane:
    """One worker: a crew in training, a few of them in each step."""

    def __init__(
        self, base: BaseModelInUse, trainee: Callable[[int, Job], Trainee], settings: FleetSettings, lanes: int
    ) -> None:
        self._base, self._trainee, self._settings = base, trainee, settings
        self._crew = max(1, settings.crew // lanes)
        self._room = room_on_cpu(settings)
        self._layers = layers_for(base.model)
        kept = settings.cache_mib * 2**20 // lanes
        self.inputs = HalfInputs(self._layers, kept) if isinstance(self._layers, Trunk) else None
        self._device = next(base.model.parameters()).device

    def start(self) -> None:
        """Nothing to be done: this lane is where it is."""

    def forget_rows(self) -> None:
        """Drop the inputs kept so far, and leave the system what is free."""
        if self.inputs is not None:
            self.inputs.forget()
        give_back_memory()

    def work(self, jobs: Sequence[tuple[int, Job]], on_done: Callable[[], None], stop: Stop) -> list[Finished]:
        """Train these jobs, each with its place; whoever is done makes room for the next.

        Leaves where it is once `stop` is set.
        """
        trainees = [self._trainee(place, job) for place, job in jobs]
        waiting, crew = trainees[::-1], list[Trainee]()
        slots: Slots | None = None
        with fused(self._base.model, torch.bfloat16 if self._base.mixed else None):
            if trainees and self._device.type == "cuda":
                self._room = self._measured(trainees)
            while (crew or waiting) and not stop.is_set():
                while waiting and len(crew) < self._crew:
                    crew.append(waiting.pop().begin(self._device))
                members = choose(crew, self._room.slots)
                if slots is None or slots.members != members:
                    if slots is not None:
                        slots.put_back()
                    slots = Slots(members)
                self._step(slots)
                judged = [trainee for trainee in members if trainee.to_be_judged]
                if judged or any(trainee.at_episode_end for trainee in members):
                    slots.put_back()
                    slots = None
                if judged:
                    self._judge(judged)
                for trainee in members:
                    if not trainee.at_episode_end:
                        continue
                    trainee.next_episode()
                    if trainee.finished:
                        crew.remove(trainee)
                        on_done()
        return [] if stop.is_set() else [trainee.result for trainee in trainees]

    def _step(self, slots: Slots) -> None:
        """One forward and backward pass, and one optimiser step of every slot."""
        rows = [trainee.rows for trainee in slots.members]
        shares = slots.column([1 / sum(row.response_tokens for row in mine) for mine in rows])
        with stacked(self._base, slots.factors()):
            batch, nats = self._nats(slots, rows, self._room.recompute)
            weighted = nats * shares[batch.owner, 0]
            gradients = torch.autograd.grad(weighted.sum(), slots.leaves)
        losses = torch.zeros(len(slots.members), device=self._device).index_add_(0, batch.owner, weighted.detach())
        slots.step(torch.cat([gradient.flatten(1) for gradient in gradients], dim=1), losses)

    def _judge(self, trainees: Sequence[Trainee]) -> None:
        """Score each trainee's validation rows under their memory as it is."""
        rows_of = [trainee.job.validation for trainee in trainees]
        nats = [0.0] * len(trainees)
        for first in range(0, max(map(len, rows_of)), JUDGED_TOGETHER):
            here = [place for place, rows in enumerate(rows_of) if first < len(rows)]
            slots = Slots([trainees[place] for place in here])
            with torch.no_grad(), stacked(self._base, slots.factors()):
                batch, found = self._nats(slots, [rows_of[place][first : first + JUDGED_TOGETHER] for place in here])
            sums = torch.zeros(len(here), device=self._device).index_add_(0, batch.owner, found)
            for place, more in zip(here, sums.tolist(), strict=True):
                nats[place] += more
        for trainee, rows, total in zip(trainees, rows_of, nats, strict=True):
            trainee.judge(total / sum(row.response_tokens for row in rows))

    def _nats(self, slots: Slots, rows: Sequence[Sequence[Example]], recompute: bool = False) -> tuple[Any, Tensor]:
        """Rows of each slot as one batch, and the loss of each of their response tokens; within `stacked`."""
        batch = self._layers.rows(rows, self._device)
        start = self._layers.entrance(min(trainee.start for trainee in slots.members))
        inputs = self.inputs(rows, batch, start) if self.inputs is not None else None
        hidden = self._layers.at_labels(batch, start, inputs, recompute)
        return batch, nats_of(self._base.model, hidden, batch.label)

    def _measured(self, jobs: Sequence[Trainee]) -> Room:
        """How many users a pass has on this card: by real steps of the heaviest job, whose training they are not."""
        heaviest = max(jobs, key=lambda trainee: trainee.load)

        def peak(slots: int, recompute: bool) -> int | None:
            before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._room = Room(slots, recompute)
            try:
                self._step(Slots([heaviest.at_widest(self._device) for _ in range(slots)]))
            except torch.cuda.OutOfMemoryError:
                return None
            return torch.cuda.max_memory_allocated(self._device) - before

        pooled = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + pooled
        to_be_kept = 0 if self.inputs is None else self.inputs.left
        available = bytes_for_steps(self._settings, free, max(trainee.layout.size for trainee in jobs), to_be_kept)
        room = room_on_card(self._settings, peak, available)
        log.info("fleet: %d users in a pass, %s", room.slots, "layers recomputed" if room.recompute else "layers kept")
        return room


def divided(work: Sequence[int], lanes: int) -> list[list[int]]:
    """Places of the pieces of work that each lane is given: the largest first, each to the lane that has least so far.

    A function of the list alone, so that a run repeats bit for bit.
    """
    shares: list[list[int]] = [[] for _ in range(lanes)]
    sums = [0] * lanes
    for place in sorted(range(len(work)), key=lambda place: -work[place]):
        least = sums.index(min(sums))
        shares[least].append(place)
        sums[least] += work[place]
    return [sorted(share) for share in shares]


def choose(crew: Sequence[Trainee], slots: int) -> list[Trainee]:
    """Who shares the next step: who has most to do, and those whose rows and lowest layer are most like theirs."""
    first = max(crew, key=lambda trainee: (trainee.left, -trainee.place))

    def unlike(trainee: Trainee) -> tuple[bool, bool, int, int]:
        size = max(trainee.layout.size, first.layout.size) > 2 * min(trainee.layout.size, first.layout.size)
        return trainee.start != first.start, size, abs(trainee.tokens - first.tokens), trainee.place

    return sorted(sorted(crew, key=unlike)[:slots], key=lambda trainee: trainee.place)
