"""A memory in memory: per episode and site the two factors of a LoRA, and what they do to the base's weights.

h' = W h + Σ_k scale · B_k A_k h        A_k [rank, in], B_k [out, rank], B_k = 0 at the start

In training scale is alpha_ratio; a trained memory's is `MemoryConfig.scale`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from imprint.base.fit import all_finite
from imprint.base.load import BaseModelInUse
from imprint.base.sites import Site
from imprint.errors import IncompatibleBaseError
from imprint.memory.config import MemoryConfig
from imprint.provenance import seed_for

if TYPE_CHECKING:
    import torch

Row = TypeVar("Row")


class Factors(NamedTuple):
    """One LoRA at one site: `a` is [rank, in], `b` is [out, rank], both fp32."""

    a: torch.Tensor
    b: torch.Tensor


@dataclass(frozen=True, slots=True)
class Episode:
    """One stretch of a history as LoRA factors by site name, with the fingerprint of the rows that made it.

    `epochs` is the passes over those rows that the factors are made of: the config's, unless training stopped early.
    """

    rows: int
    row_fingerprint: str
    epochs: int
    factors: dict[str, Factors]


@dataclass(frozen=True, slots=True)
class Memory:
    """One user's memory: their config and episodes, bound to one base model."""

    user_id: str
    base_fingerprint: str
    config: MemoryConfig
    episodes: tuple[Episode, ...]

    def at_strength(self, strength: float) -> Memory:
        """The same weights, used at this strength."""
        return replace(self, config=self.config.model_copy(update={"strength": strength}))

    @property
    def finite(self) -> bool:
        """Whether its training did not diverge."""
        return all_finite(self._tensors())

    @property
    def bytes(self) -> int:
        """Size of the factors."""
        return sum(factor.numel() * factor.element_size() for factor in self._tensors())

    def _tensors(self) -> Iterator[torch.Tensor]:
        return (factor for episode in self.episodes for factors in episode.factors.values() for factor in factors)


def initial_factors(site: Site, rank: int, seed: int, *names: str | int) -> Factors:
    """A of N(0, 1/√in) and B = 0, from `seed`, `names` and the site alone, whoever trains beside it."""
    import torch

    generator = torch.Generator().manual_seed(seed_for(seed, *names, site.name))
    a = torch.randn(rank, site.in_features, generator=generator) / math.sqrt(site.in_features)
    return Factors(a, torch.zeros(site.out_features, rank))


def site_updates(memory: Memory) -> dict[str, torch.Tensor]:
    """What all episodes together add to each site's weight, [out, in] by site name."""
    updates: dict[str, torch.Tensor] = {}
    for episode in memory.episodes:
        for name, (a, b) in episode.factors.items():
            update = memory.config.scale * (b @ a)
            updates[name] = updates[name] + update if name in updates else update
    return updates


@contextmanager
def remembering(base: BaseModelInUse, memory: Memory) -> Iterator[None]:
    """Within the block the base answers with this memory; afterwards its weights are bit for bit what they were.

    Raises `IncompatibleBaseError` for a memory of another base. The factors are added into the weights, which costs one
    small product a site instead of two on every forward.
    """
    if memory.base_fingerprint != base.record.fingerprint:
        raise IncompatibleBaseError(memory.base_fingerprint, base.record.fingerprint)
    sites = {site.name: site for site in base.sites}
    kept: dict[str, torch.Tensor] = {}
    try:
        for name, update in site_updates(memory).items():
            weight = base.model.get_parameter(f"{name}.weight")
            kept[name] = weight.data
            # a new tensor, so that restoring is a pointer and not an arithmetic inverse
            weight.data = weight.data + (update.T if sites[name].transposed else update).to(weight.data)
        yield
    finally:
        for name, data in kept.items():
            base.model.get_parameter(f"{name}.weight").data = data


def cut_into_episodes(rows: Sequence[Row], count: int) -> list[Sequence[Row]]:
    """`rows` in time order as `count` contiguous stretches whose lengths differ by at most one."""
    bounds = [len(rows) * index // count for index in range(count + 1)]
    return [rows[start:stop] for start, stop in pairwise(bounds)]
