"""Early stopping: one episode's validation losses so far, and the weights of its best epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from imprint.base.examples import Example
from imprint.memory.settings import EarlyStopping


def watch_over(validation: Sequence[Example], early_stopping: EarlyStopping | None) -> Watch | None:
    """What watches one episode; nothing does where the option is off, or the user has no validation rows."""
    return Watch(early_stopping.patience) if early_stopping is not None and validation else None


class Watch:
    """Told the loss on a user's validation rows after every epoch of an episode; both trainers ask it."""

    def __init__(self, patience: int) -> None:
        """A watch that gives up after `patience` epochs in a row without a lower loss than the lowest so far."""
        self._patience = patience
        self._epochs = self._best_epoch = 0
        self._lowest = math.inf
        self._kept: list[Tensor] = []

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, counted from 1; the last where no loss was a number."""
        return self._best_epoch or self._epochs

    @property
    def over(self) -> bool:
        """Whether the episode's training ends here."""
        return self._epochs - self._best_epoch >= self._patience

    def note(self, loss: float, weights: Sequence[Tensor]) -> None:
        """One more epoch is done, and this is the loss (nats per response token) under these weights."""
        self._epochs += 1
        if loss < self._lowest:
            self._lowest, self._best_epoch = loss, self._epochs
            self._kept = [weight.detach().clone() for weight in weights]

    def restore(self, weights: Sequence[Tensor]) -> None:
        """Write the best epoch's weights into these, given in the order of `note`; no better epoch, no change."""
        with torch.no_grad():
            for weight, kept in zip(weights, self._kept, strict=False):
                weight.copy_(kept)
