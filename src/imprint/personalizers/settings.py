"""What a person may choose about the methods that personalize without a memory."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class EncoderSettings(BaseModel):
    """How a text becomes one vector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = Field(
        default=None, description="Folder or hub id of any Hugging Face encoder; null: the base model's hidden states."
    )
    pooling: Literal["mean", "first"] = Field(
        default="mean", description="Mean over tokens, or the first token's state (BGE and other BERT-like encoders)."
    )
    normalise: bool = Field(default=True, description="Scale vectors to length 1.")
    max_tokens: int = Field(default=128, ge=1, description="A longer text keeps its beginning.")
    query_prefix: str = Field(default="", description="Put before a query, as some encoders were trained.")


class RecentHistorySettings(BaseModel):
    """The latest earlier interactions, put before the query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    budget_tokens: int = Field(default=64, ge=1, description="Tokens of history before a query; more keep their end.")


class RetrievalSettings(BaseModel):
    """The earlier interactions most like the query, put before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["bm25", "dense"] = Field(default="bm25", description="Words in common, or nearness of vectors.")
    items: int = Field(default=4, ge=1, description="Interactions retrieved for a query, the best one last.")
    budget_tokens: int = Field(default=64, ge=1, description="Tokens of history before a query; more keep their end.")
    encoder: EncoderSettings = Field(default=EncoderSettings(), description="What makes the vectors of by: dense.")
