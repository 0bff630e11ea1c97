"""What a person may choose about training memories."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from imprint.memory.config import MemoryConfig

CPU_SLOTS = 8
"""Users in one pass of a CPU's core (docs/log.md)."""


class FleetSettings(BaseModel):
    """How many users are trained at once. None of it changes what a user gets, beyond a rounding of what is computed.

    In fp32 that is nothing to speak of; with products in bf16 another company's steps round elsewhere, as another
    processor would (docs/decisions/0025).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slots: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description=f"Users in one forward and backward pass; auto: {CPU_SLOTS} on a CPU, by measurement on a card.",
    )
    crew: int = Field(default=32, ge=1, description="Users in training at once; each step takes slots of them.")
    cache_mib: int = Field(default=1024, ge=0, description="Memory for inputs of the lowest layer with a memory.")
    free_share: float = Field(
        default=0.8, gt=0, le=1, description="Slots auto, on a card: the share of its free memory that may be taken."
    )
    checkpoint_layers: Literal["auto"] | bool = Field(
        default="auto",
        description="Compute layers again in the backward pass: less memory, a third more time. auto: where a user's "
        "step does not fit on the card otherwise.",
    )

    @property
    def scoring_slots(self) -> int:
        """Memories in one pass that trains nothing; such a pass keeps little, so auto measures nothing."""
        return CPU_SLOTS if self.slots == "auto" else self.slots


class EarlyStopping(BaseModel):
    """When training ends before its last epoch: each user's episodes by that user's own validation rows.

    In a search a trial is then judged on the same rows that it stopped on, so its objective value is a little too good.
    Test rows are not touched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    patience: int = Field(
        ge=1, description="Epochs in a row without a lower validation loss, after which an episode's training ends."
    )


class MemorySettings(BaseModel):
    """How memories are trained, whatever their config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trainer: Literal["fleet", "one_user"] = Field(
        default="fleet",
        description="fleet: many users at once; one_user: plain PEFT in the format of the base, slowly.",
    )
    fleet: FleetSettings = FleetSettings()
    batch_rows: int = Field(default=16, ge=1, description="Rows in one training step of one user.")
    early_stopping: EarlyStopping | None = Field(
        default=None, description="End an episode's training by validation loss, and keep its best epoch; null: never."
    )
    fixed_config: MemoryConfig = Field(
        description="The config of the method fixed_memory: one for all, never searched."
    )
