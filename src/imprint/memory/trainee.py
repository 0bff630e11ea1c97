"""A job in training: where it is in its plan, its weights and its moments in one flat matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from imprint.base.examples import Example, fingerprint_of_examples
from imprint.base.fit import Fitted, batches, share_of_peak, steps_per_epoch
from imprint.base.load import BaseModelInUse
from imprint.base.settings import FitSettings
from imprint.memory.config import MemoryConfig
from imprint.memory.layout import Layout, widest
from imprint.memory.settings import EarlyStopping
from imprint.memory.stopping import watch_over
from imprint.memory.trainer import Trained, enough_rows
from imprint.memory.weights import Episode, Factors, Memory, cut_into_episodes, initial_factors
from imprint.provenance import seed_for


@dataclass(frozen=True, slots=True)
class Job:
    """One memory to train. The same user may have several, each in a config of its own.

    `validation` is read where training may stop early, and only then.
    """

    user_id: str
    examples: Sequence[Example]
    config: MemoryConfig
    validation: Sequence[Example] = ()


class Finished(NamedTuple):
    """What training a job came to: its memory's flat weights, and of each episode steps, tokens, loss and epochs."""

    weights: np.ndarray[Any, np.dtype[np.float32]]
    episodes: tuple[tuple[int, int, float, int], ...]

    @property
    def tokens(self) -> int:
        """Tokens of all steps."""
        return sum(tokens for _, tokens, _, _ in self.episodes)


@dataclass(eq=False)
class Trainee:
    """A job in training: where it is in its plan, its weights and its moments."""

    place: int
    job: Job
    base: BaseModelInUse
    seed: int
    batch_rows: int
    early_stopping: EarlyStopping | None = None
    cost: int = 0
    step: int = 0
    number: int = 0
    _losses: list[Tensor] = field(default_factory=list)
    _fitted: list[tuple[int, int, Tensor]] = field(default_factory=list)
    _epochs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse now what could not be trained later."""
        config = self.job.config
        enough_rows(self.job.user_id, len(self.job.examples), config)
        self._ranks = config.site_ranks(self.base.sites)
        sites = tuple(site for site in self.base.sites if site.name in self._ranks)
        columns = tuple(self._ranks[site.name] * config.n_memories for site in sites)
        self.layout = widest([Layout(sites, columns)])
        self.start = min(site.half for site in sites)
        self.settings = FitSettings(
            learning_rate=config.learning_rate, epochs=config.epochs, batch_rows=self.batch_rows
        )
        self._episodes = cut_into_episodes(self.job.examples, config.n_memories)

    def begin(self, device: torch.device) -> Trainee:
        """Take a place in the crew."""
        self.state = torch.zeros(3, self.layout.size, device=device)
        self._plan_episode()
        return self

    @property
    def work(self) -> int:
        """About what its training takes, in tokens times halves of layers: more than it is where it stops early."""
        return self.job.config.epochs * sum(len(row.input_ids) for row in self.job.examples) * self._halves

    @property
    def load(self) -> int:
        """What its step of the most tokens keeps for its backward pass, in tokens times halves of layers."""
        tokens, _, _ = self._widest()
        return tokens * self._halves

    @property
    def _halves(self) -> int:
        """Halves of layers from its lowest on."""
        return 1 + max(site.half for site in self.base.sites) - self.start

    def at_widest(self, device: torch.device) -> Trainee:
        """A copy at the step of all its episodes that has the most tokens; training it changes nothing of this one."""
        copy = Trainee(self.place, self.job, self.base, self.seed, self.batch_rows).begin(device)
        _, copy.number, step = self._widest()
        copy._plan_episode()
        copy.step = step
        return copy

    @property
    def finished(self) -> bool:
        """Whether every episode is trained."""
        return self.number == len(self._episodes)

    @property
    def at_episode_end(self) -> bool:
        """Whether the plan of the episode is used up, or its validation loss has ended it."""
        return self.step == len(self._plan) or (self._watch is not None and self._watch.over)

    @property
    def to_be_judged(self) -> bool:
        """Whether an epoch has just ended whose validation loss is wanted."""
        return self._watch is not None and self.step % self._steps_per_epoch == 0

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
        """That of the next step."""
        return self.settings.learning_rate * share_of_peak(self.step, len(self._plan), self.settings.warmup_share)

    def advance(self, loss: Tensor) -> None:
        """One step is done."""
        self.cost += self.tokens
        self._losses.append(loss)
        self.step += 1

    def judge(self, loss: float) -> None:
        """Note the validation loss of the epoch that has just ended."""
        if self._watch is not None:
            self._watch.note(loss, [self.state[0]])

    def next_episode(self) -> None:
        """Note what this episode's training did, and begin the next, if there is one."""
        if self._watch is not None:
            self._watch.restore([self.state[0]])
        self._epochs.append(self.settings.epochs if self._watch is None else self._watch.best_epoch)
        tail = torch.stack(self._losses[-max(1, len(self._losses) // 10) :]).mean()
        self._fitted.append((self.step, self.cost - sum(tokens for _, tokens, _ in self._fitted), tail))
        self._losses.clear()
        self.number += 1
        if self.finished:
            self._keep_the_memory()
        else:
            self._plan_episode()

    @property
    def result(self) -> Finished:
        """What its training came to, once it is finished."""
        episodes = [
            (steps, tokens, loss.item(), epochs)
            for (steps, tokens, loss), epochs in zip(self._fitted, self._epochs, strict=True)
        ]
        return Finished(self.state[0].numpy(), tuple(episodes))

    def trained(self, finished: Finished, seconds_per_token: float) -> Trained:
        """The memory that this job's training came to, wherever that was."""
        weights = torch.from_numpy(finished.weights)[None]
        factors = {name: (a[0], b[0]) for name, (a, b) in self.layout.factors(weights).items()}
        episodes, fitted = [], []
        for number, (rows, its) in enumerate(zip(self._episodes, finished.episodes, strict=True)):
            steps, tokens, loss, epochs = its
            mine = {}
            for name, (a, b) in factors.items():
                columns = slice(number * self._ranks[name], (number + 1) * self._ranks[name])
                mine[name] = Factors(a[:, columns].T.contiguous(), b[columns].T.contiguous())
            episodes.append(Episode(len(rows), fingerprint_of_examples(rows), epochs, mine))
            fitted.append(Fitted(steps, tokens, tokens * seconds_per_token, loss))
        memory = Memory(self.job.user_id, self.base.record.fingerprint, self.job.config, tuple(episodes))
        return Trained(memory, tuple(fitted))

    def _widest(self) -> tuple[int, int, int]:
        """Tokens of the step that has the most, its episode, and its place there."""
        return max(
            (sum(len(row.input_ids) for row in rows), number, step)
            for number in range(len(self._episodes))
            for step, rows in enumerate(self._steps_of(number))
        )

    def _steps_of(self, number: int) -> list[list[Example]]:
        """The rows of each step of an episode, in the order that (seed, user) gives them."""
        order = seed_for(self.seed, "order", self.job.user_id, number)
        return list(batches(self._episodes[number], self.settings, order))

    def _plan_episode(self) -> None:
        """Draw the order of the episode's rows, and give its columns their start; the moments begin at zero."""
        user_id = self.job.user_id
        self._plan = self._steps_of(self.number)
        self._steps_per_epoch = steps_per_epoch(len(self._episodes[self.number]), self.settings)
        self._watch = watch_over(self.job.validation, self.early_stopping)
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

    def _keep_the_memory(self) -> None:
        """And nothing else, and not where those who go on need the room."""
        self.state, self.trainable, self._watch, self._plan = self.state[:1].cpu().clone(), None, None, []
