"""The memory config: the point a search looks for (MiLP's space, made non-degenerate).

MiLP searches how many LoRA modules, of what size, in which layers. K ungated LoRAs of rank r at one site are exactly
one of rank K·r, so "how many" is the number of episodes (`n_memories`) here, and size and layers are one rank for each
group of layers, 0 meaning that the group carries none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from imprint.base.sites import ATTENTION, FEED_FORWARD, Site
from imprint.errors import MemoryConfigError

RANKS = (0, 1, 2, 4, 8, 16, 32)
MAX_GROUPS = 8
MAX_EPISODES = 4

Target = Literal["gate", "up", "down", "query", "key", "value", "output"]


class MemoryConfig(BaseModel):
    """How a user's memory is shaped, trained and added."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranks: tuple[int, ...] = Field(
        min_length=1, max_length=MAX_GROUPS, description="LoRA rank of each layer group, first layers first; 0: none."
    )
    targets: tuple[Target, ...] = Field(min_length=1, description="Linears that carry a LoRA in those layers.")
    alpha_ratio: float = Field(gt=0, le=64, description="lora_alpha / rank: the LoRA's scale in training.")
    n_memories: Annotated[int, Field(ge=1, le=MAX_EPISODES)] = Field(description="Episodes the history is cut into.")
    learning_rate: float = Field(gt=0, le=1, description="Peak learning rate of AdamW.")
    epochs: int = Field(ge=1, le=100, description="Passes over each episode's rows.")
    strength: float = Field(
        default=1.0, gt=0, le=4, description="What the trained update is multiplied by in use; training is at 1."
    )

    @property
    def scale(self) -> float:
        """What a memory's update is multiplied by in use: lora_alpha / rank, times its strength."""
        return self.alpha_ratio * self.strength

    @property
    def as_trained(self) -> MemoryConfig:
        """The config without its strength: memories of the same rows that are the same weights have it in common."""
        return self.model_copy(update={"strength": 1.0})

    @field_validator("ranks")
    @classmethod
    def _ranks_of_the_space(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [rank for rank in ranks if rank not in RANKS]
        if wrong:
            raise MemoryConfigError(f"ranks: {wrong} given; allowed are {RANKS}. Next: take the nearest of these.")
        if not any(ranks):
            raise MemoryConfigError(f"ranks: {ranks} gives no layer a memory; next: set at least one rank above 0.")
        return _shortest(ranks)

    @field_validator("targets")
    @classmethod
    def _targets_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        known = [target for target in (*FEED_FORWARD, *ATTENTION) if target in targets]
        if len(known) != len(targets):
            raise MemoryConfigError(f"targets: {targets} names one twice; next: name each linear once.")
        return tuple(known)  # type: ignore[arg-type]

    def site_ranks(self, sites: Sequence[Site]) -> dict[str, int]:
        """Rank of each site that carries a LoRA, by site name. `MemoryConfigError` where the model has no such site."""
        layers = 1 + max(site.layer for site in sites)
        if len(self.ranks) > layers:
            raise MemoryConfigError(
                f"ranks: {len(self.ranks)} layer groups given for a base model of {layers} layers; "
                f"next: give at most {layers} ranks, or set search.space.layer_groups to at most {layers}."
            )
        ranks = {
            site.name: rank
            for site in sites
            if site.target in self.targets and (rank := self.ranks[site.layer * len(self.ranks) // layers])
        }
        if not ranks:
            raise MemoryConfigError(
                f"targets: {self.targets} names no linear of this base model, which has "
                f"{sorted({site.target for site in sites})}; next: name one of these."
            )
        return ranks

    def trainable_parameters(self, sites: Sequence[Site]) -> int:
        """Weights of a whole memory, all episodes together: Σ rank · (in + out) · n_memories."""
        ranks = self.site_ranks(sites)
        by_name = {site.name: site for site in sites}
        each = sum(rank * (by_name[name].in_features + by_name[name].out_features) for name, rank in ranks.items())
        return each * self.n_memories


def _shortest(ranks: tuple[int, ...]) -> tuple[int, ...]:
    """The same ranks in the fewest groups; of any number of layers each layer keeps its rank."""
    for groups in range(1, len(ranks)):
        together, left = divmod(len(ranks), groups)
        fewer = ranks[::together]
        if not left and ranks == tuple(rank for rank in fewer for _ in range(together)):
            return fewer
    return ranks
