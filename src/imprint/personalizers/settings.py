"""What a person may choose about the methods that personalize without a memory."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from imprint.base.settings import FitSettings
from imprint.errors import SettingsError


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


class PlugSettings(BaseModel):
    """Persona-Plug; the paper where paper and released code disagree. Its ablations are values of these fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderSettings = Field(default=EncoderSettings(), description="The frozen history encoder.")
    history_text: str = Field(
        default="{query} {response}",
        description="What of an earlier interaction is encoded: {query}, {response}, or both.",
    )
    max_items: int = Field(default=512, ge=1, description="Latest interactions a user is known by.")
    weights: Literal["softmax", "mean"] = Field(
        default="softmax", description="By likeness to the query, or all alike."
    )
    top: int | None = Field(default=None, ge=1, description="Only the interactions most like the query; null: all.")
    instruction: Literal["vector", "projected", "none"] = Field(
        default="vector", description="A learned vector; one with a projector of its own (released code); or none."
    )
    retrieved: int = Field(default=0, ge=0, description="Interactions found by BM25 and shown as text as well.")
    retrieved_tokens: int = Field(default=48, ge=1, description="Tokens they may take.")
    augment: int = Field(default=10, ge=0, description="More lessons on random parts of each interaction's history.")
    fit: FitSettings = Field(description="How the shared weights are trained; the budget replaces max_tokens.")

    @field_validator("history_text")
    @classmethod
    def _known_fields(cls, text: str) -> str:
        try:
            filled = text.format(query="q", response="r")
        except (KeyError, IndexError, ValueError) as error:
            raise SettingsError(
                f"history_text: {text!r} given; allowed are {{query}} and {{response}}. Next: write no other braces."
            ) from error
        if filled == text:
            raise SettingsError(f"history_text: {text!r} has neither {{query}} nor {{response}}. Next: put one in.")
        return text
