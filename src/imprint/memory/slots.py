"""The members of one step: their weights and moments as rows of one matrix, gathered and given back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imprint.memory.layout import Layout, places, widest
from imprint.memory.optimiser import adamw_rows, bias_corrections, clip_rows
from imprint.memory.trainee import Trainee


class Slots:
    """The members of a step, their weights and moments as rows of one matrix."""

    def __init__(self, members: Sequence[Trainee]) -> None:
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
