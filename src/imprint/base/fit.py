"""The training loop of one set of weights: any weights of any model, on any list of examples, by any loss.

The embedded base and the pooled LoRA come through here, and a memory where plain PEFT trains it (`memory/trainer.py`,
the oracle). Many users' memories are trained together by `memory/fleet.py`, which is held against this loop and takes
its order of rows and its schedule from here. The order is drawn from `order_seed`, epoch by epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from imprint.base.allocator import settle_allocator
from imprint.base.checkpoint import Checkpoint, Done
from imprint.base.examples import Example, collate
from imprint.base.loss import nats_of, nats_per_row
from imprint.base.settings import FitSettings
from imprint.errors import NotEnoughDataError

if TYPE_CHECKING:
    import torch
    from torch import nn

TRAINING_VERSION = 7
"""Part of the name of everything that is trained: raise it when a change here or in what calls it changes weights, so
that work of earlier code is not taken for work of this code."""

SORT_WINDOW = 16
"""Batches shuffled together, then sorted by length: less padding, still a random order."""


class Readable(Protocol):
    """What can be trained on: anything that a number of tokens is read for."""

    @property
    def input_ids(self) -> Sequence[Any]:
        """What is read, one entry a token."""
        ...


Row = TypeVar("Row", bound=Readable)
LossOf = Callable[[Sequence[Row]], "torch.Tensor"]
"""The mean loss of some rows, differentiable."""


class Fitted(NamedTuple):
    """What a training run did. `final_loss` is the mean over its last tenth of steps, nats per response token."""

    steps: int
    tokens: int
    seconds: float
    final_loss: float


def fit(
    model: nn.Module,
    weights: Iterable[torch.Tensor],
    examples: Sequence[Row],
    settings: FitSettings,
    order_seed: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    on_epoch: Callable[[], bool] = lambda: False,
    checkpoint: Checkpoint | None = None,
    loss_of: LossOf[Row] | None = None,
) -> Fitted:
    """Train `weights` of `model` in place with AdamW; everything else stays frozen.

    `on_step(step, steps)` is called after each step, for a progress bar; `on_epoch()` after each pass over the rows,
    and where it returns True training ends. No dropout is used, so that a memory is a function of its rows, its config
    and its seed. With a `checkpoint`, a training that was killed goes on where it was and ends with the same weights;
    the caller removes it once they are kept. `loss_of` gives the mean loss of some rows; without it rows are `Example`s
    and it is theirs under `model`, `padded`.
    """
    import torch

    if not examples:
        raise NotEnoughDataError("no training rows were given to fit; next: check the user's train split.")
    settle_allocator()
    weights = list(weights)
    model.eval()  # dropout off; gradients flow all the same
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    plan = list(batches(examples, settings, order_seed))
    done = checkpoint.restore(weights, optimiser) if checkpoint else Done()
    before, started = done.seconds, time.perf_counter()
    loss_of = loss_of or cast("LossOf[Row]", partial(padded, model))
    for chosen in plan[done.steps :]:
        share = share_of_peak(done.steps, len(plan), settings.warmup_share)
        done.losses.append(_step(loss_of(chosen), weights, optimiser, settings, share))
        done.steps += 1
        done.tokens += sum(len(example.input_ids) for example in chosen)
        done.seconds = before + time.perf_counter() - started
        if checkpoint:
            checkpoint.keep_if_due(weights, optimiser, done)
        on_step(done.steps, len(plan))
        if done.steps % steps_per_epoch(len(examples), settings) == 0 and on_epoch():
            break
    tail = torch.stack(done.losses[-max(1, done.steps // 10) :]).mean().item()
    return Fitted(done.steps, done.tokens, done.seconds, tail)


def padded(model: nn.Module, rows: Sequence[Example]) -> torch.Tensor:
    """By the model's own forward pass, rows filled up to one width: for any model, and what others are held against."""
    batch = collate(rows, device=model.get_input_embeddings().weight.device)  # type: ignore[operator]
    return nats_per_row(model, batch).sum() / len(batch.label)


def packed(model: nn.Module, rows: Sequence[Example]) -> torch.Tensor:
    """Rows end to end, and the last feed-forward at labels alone: 0.7 of the time on a CPU, for mapped families.

    Rows of an encoder-decoder model are padded here too.
    """
    from imprint.base.trunk import layers_for

    layers = layers_for(model)
    batch = layers.rows([rows], model.get_input_embeddings().weight.device)  # type: ignore[operator]
    return nats_of(model, layers.at_labels(batch), batch.label).mean()


def _step(
    loss: torch.Tensor,
    weights: Sequence[torch.Tensor],
    optimiser: torch.optim.Optimizer,
    settings: FitSettings,
    share: float,
) -> torch.Tensor:
    """One update at `share` of the peak learning rate; returns `loss`, the one before it."""
    import torch

    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * share
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss.detach()


def all_finite(weights: Iterable[torch.Tensor]) -> bool:
    """Whether they are numbers throughout: a training that diverged leaves none."""
    return all(bool(weight.isfinite().all()) for weight in weights)


def steps_per_epoch(rows: int, settings: FitSettings) -> int:
    """Steps of one pass over so many rows."""
    return -(-rows // settings.batch_rows)


def batches(examples: Sequence[Row], settings: FitSettings, order_seed: int) -> Iterator[list[Row]]:
    """The rows of every step, in order: a fresh permutation an epoch, cut off at `max_tokens` where that is given."""
    import torch

    generator = torch.Generator().manual_seed(order_seed)
    left = settings.max_tokens if settings.max_tokens is not None else float("inf")
    rows = settings.batch_rows
    for _ in range(settings.epochs):
        order = torch.randperm(len(examples), generator=generator).tolist()
        for start in range(0, len(order), rows * SORT_WINDOW):
            window = sorted(order[start : start + rows * SORT_WINDOW], key=lambda index: len(examples[index].input_ids))
            steps = [window[at : at + rows] for at in range(0, len(window), rows)]
            for at in torch.randperm(len(steps), generator=generator).tolist():
                if left <= 0:
                    return
                chosen = [examples[index] for index in steps[at]]
                left -= sum(len(example.input_ids) for example in chosen)
                yield chosen


def share_of_peak(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate at `step`: linear warm-up, then linear to zero at the end."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return max(0.0, (steps - step) / max(1, steps - warmup))
