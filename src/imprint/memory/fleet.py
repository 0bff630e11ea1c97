"""Fleet training: many users' memories in one forward and backward pass over the frozen base (design, section 5).

    jobs ──► crew (in training) ──► slots of one step ──► one pass, one AdamW step by row ──► back to the crew
                 ▲ the moment one is done, the next job      chosen by length: little padding

What a user gets does not depend on the others: their rows come in the order drawn from (seed, user_id), the loss of a
slot is the mean over its own response tokens, clipping, schedule and moments are its own. The one-user trainer
(`trainer.train_memory`) is the oracle: same plan, same steps, same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imprint.base.examples import Example, fingerprint_of_examples
from imprint.base.fit import Fitted, batches, share_of_peak
from imprint.base.fused import fused, nats_per_label
from imprint.base.load import BaseModelInUse
from imprint.base.packing import pack
from imprint.base.settings import FitSettings
from imprint.base.trunk import Trunk
from imprint.memory.config import MemoryConfig
from imprint.memory.inputs import LayerInputs
from imprint.memory.layout import Layout, places, widest
from imprint.memory.optimiser import adamw_rows, bias_corrections, clip_rows
from imprint.memory.settings import FleetSettings
from imprint.memory.stack import stacked
from imprint.memory.trainer import Trained, enough_rows
from imprint.memory.weights import Episode, Factors, Memory, cut_into_episodes, initial_factors
from imprint.provenance import seed_for


@dataclass(frozen=True, slots=True)
class Job:
    """One memory to train. The same user may have several, each in a config of its own."""

    user_id: str
    examples: Sequence[Example]
    config: MemoryConfig


class Fleet:
    """Trains jobs on one base. What it keeps between calls is the base's own: inputs of layers below any memory."""

    def __init__(self, base: BaseModelInUse, settings: FleetSettings, seed: int, batch_rows: int) -> None:
        """A fleet on `base`; `batch_rows` is the rows of one user's step."""
        self._base, self._settings, self._seed, self._batch_rows = base, settings, seed, batch_rows
        self._trunk = Trunk(base.model)
        self._inputs = LayerInputs(self._trunk, settings.cache_mib * 2**20)
        self._device = next(base.model.parameters()).device

    def train(self, jobs: Sequence[Job], on_job: Callable[[int, int], None] = lambda done, jobs: None) -> list[Trained]:
        """One memory a job, in order; `on_job(done, jobs)` whenever one is finished.

        `MemoryConfigError` before any work if a history has fewer rows than episodes, or the base not the sites.
        """
        waiting = [_Trainee(place, job, self._base, self._seed, self._batch_rows) for place, job in enumerate(jobs)]
        waiting.reverse()
        crew: list[_Trainee] = []
        done: list[_Trainee] = []
        resident: _Slots | None = None
        started = time.perf_counter()
        with fused(self._base.model):
            while crew or waiting:
                while waiting and len(crew) < self._settings.crew:
                    crew.append(waiting.pop().begin(self._device))
                members = choose(crew, self._settings.slots)
                if resident is None or resident.members != members:
                    if resident is not None:
                        resident.put_back()
                    resident = _Slots(members)
                self._step(resident)
                for trainee in members:
                    if trainee.at_episode_end:
                        resident = resident and resident.put_back()
                        trainee.next_episode()
                        if trainee.finished:
                            crew.remove(trainee)
                            done.append(trainee)
                            on_job(len(done), len(jobs))
        rate = (time.perf_counter() - started) / max(1, sum(trainee.cost for trainee in done))
        return [trainee.trained(rate) for trainee in sorted(done, key=lambda trainee: trainee.place)]

    def _step(self, slots: _Slots) -> None:
        """One forward and backward pass, and one optimiser step of every slot."""
        rows = [trainee.rows for trainee in slots.members]
        batch = pack(rows, self._device)
        start = min(trainee.start for trainee in slots.members)
        shares = slots.column([1 / sum(row.response_tokens for row in mine) for mine in rows])
        with stacked(self._base, slots.factors()):
            hidden = self._trunk.hidden(batch, start, self._inputs(rows, batch, start))[batch.place]
            nats = nats_per_label(hidden, self._base.model.get_output_embeddings(), batch.label)  # type: ignore[operator, arg-type]
            weighted = nats * shares[batch.owner, 0]
            gradients = torch.autograd.grad(weighted.sum(), slots.leaves)
        losses = torch.zeros(len(slots.members), device=self._device).index_add_(0, batch.owner, weighted.detach())
        slots.step(torch.cat([gradient.flatten(1) for gradient in gradients], dim=1), losses)


def choose(crew: Sequence[_Trainee], slots: int) -> list[_Trainee]:
    """Who shares the next step: who has most to do, and those whose rows and lowest layer are most like theirs."""
    first = max(crew, key=lambda trainee: (trainee.left, -trainee.place))

    def unlike(trainee: _Trainee) -> tuple[bool, bool, int, int]:
        size = max(trainee.layout.size, first.layout.size) > 2 * min(trainee.layout.size, first.layout.size)
        return trainee.start != first.start, size, abs(trainee.tokens - first.tokens), trainee.place

    return sorted(sorted(crew, key=unlike)[:slots], key=lambda trainee: trainee.place)


class _Slots:
    """The members of a step, their weights and moments as rows of one matrix."""

    def __init__(self, members: Sequence[_Trainee]) -> None:
        self.members = list(members)
        self._layout = widest(trainee.layout for trainee in members)
        self._places = [places(trainee.layout, self._layout) for trainee in members]
        device = members[0].state.device
        self._device = device
        if all(place is None for place in self._places):
            self._state = torch.stack([trainee.state for trainee in members], dim=1)
        else:
            self._state = torch.zeros(3, len(members), self._layout.size, device=device)
            for row, (trainee, place) in enumerate(zip(members, self._places, strict=True)):
                self._state[:, row].index_copy_(1, _all(place, trainee.layout, device), trainee.state)
        self._scales = self.column([trainee.job.config.alpha_ratio for trainee in members])[:, :, None]
        views = self._layout.factors(self._state[0])
        self._leaves = {
            name: (a.detach().requires_grad_(), b.detach().requires_grad_()) for name, (a, b) in views.items()
        }
        self._mask = self._trainable()

    @property
    def leaves(self) -> list[Tensor]:
        """What is trained, in the order of the layout: gradients of these, flat and joined, are rows of the matrix."""
        return [leaf for pair in self._leaves.values() for leaf in pair]

    def column(self, values: Sequence[float]) -> Tensor:
        """One number a slot, [slots, 1], on the fleet's device."""
        return torch.tensor(values, dtype=torch.float32)[:, None].to(self._device, non_blocking=True)

    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Factors of all slots by site, B scaled."""
        return {name: (a, b * self._scales) for name, (a, b) in self._leaves.items()}

    def step(self, grad: Tensor, losses: Tensor) -> None:
        """Clip and apply each slot's gradient (a row of `grad`), and move each member on by one step."""
        settings = self.members[0].settings  # clip norm and weight decay are the same for every memory
        if self._mask is not None:
            grad.mul_(self._mask)
        clip_rows(grad, settings.clip_norm)
        rates = self.column([trainee.learning_rate for trainee in self.members])
        first, second = zip(*(bias_corrections(trainee.step + 1) for trainee in self.members), strict=True)
        corrections = self.column(first), self.column(second)
        adamw_rows(self._state, grad, rates, corrections, settings.weight_decay)
        for row, trainee in enumerate(self.members):
            trainee.advance(losses[row])

    def put_back(self) -> None:
        """Give each member its weights and moments back; the slots are not used again."""
        for row, (trainee, place) in enumerate(zip(self.members, self._places, strict=True)):
            mine = self._state[:, row]
            trainee.state.copy_(mine if place is None else mine[:, place.to(self._device)])

    def _trainable(self) -> Tensor | None:
        if all(trainee.trainable is None for trainee in self.members):
            return None
        mask = torch.zeros_like(self._state[0])
        for row, (trainee, place) in enumerate(zip(self.members, self._places, strict=True)):
            mine = torch.ones(trainee.layout.size) if trainee.trainable is None else trainee.trainable
            mask[row, _all(place, trainee.layout, self._device)] = mine.to(self._device)
        return mask


def _all(place: Tensor | None, layout: Layout, device: torch.device) -> Tensor:
    return torch.arange(layout.size, device=device) if place is None else place.to(device)


@dataclass(eq=False)
class _Trainee:
    """A job in training: where it is in its plan, its weights and its moments."""

    place: int
    job: Job
    base: BaseModelInUse
    seed: int
    batch_rows: int
    cost: int = 0
    step: int = 0
    number: int = 0
    _losses: list[Tensor] = field(default_factory=list)
    _fitted: list[tuple[int, int, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse now what could not be trained later."""
        config = self.job.config
        enough_rows(self.job.user_id, len(self.job.examples), config)
        self._ranks = config.site_ranks(self.base.sites)
        sites = tuple(site for site in self.base.sites if site.name in self._ranks)
        columns = tuple(self._ranks[site.name] * config.n_memories for site in sites)
        self.layout = widest([Layout(sites, columns)])
        self.start = min(site.layer for site in sites)
        self.settings = FitSettings(
            learning_rate=config.learning_rate, epochs=config.epochs, batch_rows=self.batch_rows
        )
        self._episodes = cut_into_episodes(self.job.examples, config.n_memories)

    def begin(self, device: torch.device) -> _Trainee:
        """Take a place in the crew."""
        self.state = torch.zeros(3, self.layout.size, device=device)
        self._plan_episode()
        return self

    @property
    def finished(self) -> bool:
        return self.number == len(self._episodes)

    @property
    def at_episode_end(self) -> bool:
        return self.step == len(self._plan)

    @property
    def rows(self) -> list[Example]:
        """The rows of the next step."""
        return self._plan[self.step]

    @property
    def tokens(self) -> int:
        """Tokens of the next step."""
        return sum(len(row.input_ids) for row in self.rows)

    @property
    def left(self) -> int:
        """Steps left, later episodes' about."""
        return len(self._plan) * (len(self._episodes) - self.number) - self.step

    @property
    def learning_rate(self) -> float:
        return self.settings.learning_rate * share_of_peak(self.step, len(self._plan), self.settings.warmup_share)

    def advance(self, loss: Tensor) -> None:
        """One step is done."""
        self.cost += self.tokens
        self._losses.append(loss)
        self.step += 1

    def next_episode(self) -> None:
        """Note what this episode's training did, and begin the next, if there is one."""
        tail = torch.stack(self._losses[-max(1, len(self._losses) // 10) :]).mean()
        self._fitted.append((self.step, self.cost - sum(tokens for _, tokens, _ in self._fitted), tail))
        self._losses.clear()
        self.number += 1
        if not self.finished:
            self._plan_episode()

    def trained(self, seconds_per_token: float) -> Trained:
        """The finished memory."""
        factors = {name: (a[0], b[0]) for name, (a, b) in self.layout.factors(self.state[:1, :].cpu()).items()}
        episodes = []
        for number, rows in enumerate(self._episodes):
            mine = {}
            for name, (a, b) in factors.items():
                columns = slice(number * self._ranks[name], (number + 1) * self._ranks[name])
                mine[name] = Factors(a[:, columns].T.contiguous(), b[columns].T.contiguous())
            episodes.append(Episode(len(rows), fingerprint_of_examples(rows), mine))
        memory = Memory(self.job.user_id, self.base.record.fingerprint, self.job.config, tuple(episodes))
        fitted = [
            Fitted(steps, tokens, tokens * seconds_per_token, loss.item()) for steps, tokens, loss in self._fitted
        ]
        return Trained(memory, tuple(fitted))

    def _plan_episode(self) -> None:
        """Draw the order of the episode's rows, and give its columns their start; the moments begin at zero."""
        user_id, rows = self.job.user_id, self._episodes[self.number]
        self._plan = list(batches(rows, self.settings, seed_for(self.seed, "order", user_id, self.number)))
        self.step = 0
        self.state[1:].zero_()
        several = len(self._episodes) > 1
        self.trainable = torch.zeros(self.layout.size) if several else None
        start = self.layout.factors(self.state[:1])
        marks = self.layout.factors(self.trainable[None]) if self.trainable is not None else {}
        for site in self.layout.sites:
            rank = self._ranks[site.name]
            columns = slice(self.number * rank, (self.number + 1) * rank)
            first = initial_factors(site, rank, self.seed, "memory", user_id, self.number)
            start[site.name][0][0, :, columns] = first.a.T.to(self.state.device)
            if marks:
                marks[site.name][0][0, :, columns] = 1
                marks[site.name][1][0, columns] = 1
