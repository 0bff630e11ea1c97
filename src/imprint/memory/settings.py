"""What a person may choose about training memories."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from imprint.memory.config import MemoryConfig


class MemorySettings(BaseModel):
    """How memories are trained, whatever their config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_rows: int = Field(default=16, ge=1, description="Rows in one training step of one user.")
    fixed_config: MemoryConfig = Field(
        description="The config of the method fixed_memory: one for all, never searched."
    )
