"""What a person may choose about the evaluation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imprint.errors import SettingsError


class JudgeSettings(BaseModel):
    """Who judges which of two responses is more the user's, for the win rate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["likelihood", "model", "endpoint"] = Field(
        default="likelihood",
        description="What the pooled model finds made likelier by the user's history; a Hugging Face causal LM; or an "
        "OpenAI-compatible endpoint.",
    )
    opponent: Literal["base", "pooled"] = Field(
        default="base", description="Whose responses every method is held against."
    )
    rows_per_user: int = Field(
        default=2, ge=1, description="Of the generated responses, how many of each user are judged."
    )
    budget_tokens: int = Field(default=64, ge=1, description="Tokens of history that the likelihood is taken after.")
    past: int = Field(default=8, ge=1, description="Latest messages of the user that a model or endpoint is shown.")
    path: str | None = Field(default=None, description="Folder or hub id of the model.")
    url: str | None = Field(
        default=None, pattern=r"^https?://", description="Base address of the endpoint, which the texts are sent to."
    )
    model: str | None = Field(default=None, description="What the endpoint calls the model.")
    key_variable: str | None = Field(
        default=None, description="Environment variable with the endpoint's key, which stands in no file; null: no key."
    )
    max_tokens: int = Field(default=8, ge=1, description="Tokens of an endpoint's answer.")
    timeout_seconds: float = Field(default=60, gt=0, description="For one answer of the endpoint.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        needed = {"likelihood": (), "model": ("path",), "endpoint": ("url", "model")}[self.by]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise SettingsError(
                f"judge.by: {self.by!r} given without {' and '.join(missing)}. Next: give what is missing, or choose "
                "likelihood."
            )
        return self


class EvaluateSettings(BaseModel):
    """How much is scored, and how sure the intervals are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_test_rows: int | None = Field(
        default=64,
        ge=1,
        description="Test rows scored for each user, spread over the test split, at least one a task; null: all.",
    )
    chosen_rows: int = Field(
        default=16,
        ge=0,
        description="Of these, rows of each user for which a label is chosen or the catalogue of items ranked, where "
        "the task has such, at least one a task; 0: none.",
    )
    seen_items: Literal["kept", "removed"] = Field(
        default="kept", description="Whether an item that the user had before is still a candidate (as in User-LLM)."
    )
    responses_per_user: int = Field(
        default=8, ge=0, description="Test queries answered for each user, at least one a task; 0: no generation."
    )
    max_new_tokens: int = Field(default=32, ge=1, description="Tokens a response may have.")
    specificity_users: int = Field(
        default=32,
        ge=0,
        description="Users who are asked as each other, for specificity and drift; in a comparison 12 at most.",
    )
    specificity_rows: int = Field(default=8, ge=1, description="Test rows of each user scored under every such memory.")
    judge: JudgeSettings | None = Field(
        default=JudgeSettings(), description="Who judges generated responses for the win rate; null: nobody."
    )
    resamples: int = Field(default=2000, ge=100, description="Bootstrap resamples over users behind each interval.")
