"""What a person may choose about the evaluation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EvaluateSettings(BaseModel):
    """How much is scored, and how sure the intervals are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_test_rows: int | None = Field(
        default=64, ge=1, description="Test rows scored for each user, spread evenly over their test split; null: all."
    )
    responses_per_user: int = Field(
        default=8, ge=0, description="Test queries answered for each user; 0: no generation."
    )
    max_new_tokens: int = Field(default=32, ge=1, description="Tokens a response may have.")
    specificity_users: int = Field(
        default=32, ge=0, description="Users whose memories are tried on each other's words."
    )
    specificity_rows: int = Field(default=8, ge=1, description="Test rows of each user scored under every such memory.")
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples over users behind each interval.")
