"""What a person may choose about the methods that personalize without a memory."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from imprint.base.settings import FitSettings
from imprint.errors import SettingsError


def _known_fields(text: str) -> str:
    try:
        filled = text.format(query="q", response="r")
    except (KeyError, IndexError, ValueError) as error:
        raise SettingsError(
            f"history_text: {text!r} given; allowed are {{query}} and {{response}}. Next: write no other braces."
        ) from error
    if filled == text:
        raise SettingsError(f"history_text: {text!r} has neither {{query}} nor {{response}}. Next: put one in.")
    return text


HistoryText = Annotated[str, AfterValidator(_known_fields)]
"""A text with `{query}` (what it is about, without its task's words), `{response}` or both in it."""


PromptForm = Literal["turns", "quoted"]
"""turns: in the form that the base was trained on. quoted: as LaMP's prompts for models that follow instructions."""


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
    max_tokens: int = Field(
        default=128, ge=1, description="What is longer gives way at its end: of query and response the longer."
    )
    query_prefix: str = Field(default="", description="Put before a query, as some encoders were trained.")


class RecentHistorySettings(BaseModel):
    """The latest earlier interactions, put before the query."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    budget_tokens: int = Field(
        default=64, ge=1, description="Tokens of history before a query, shared among the interactions shown."
    )
    prompt: PromptForm = Field(default="turns", description="More turns before the query, or quoted in its words.")


class TunedHistorySettings(BaseModel):
    """The latest earlier interactions, put before the query of a model that was taught to read them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    budget_tokens: int = Field(
        default=64, ge=1, description="Tokens of history before a query, shared among the interactions shown."
    )
    lora_rank: Literal[1, 2, 4, 8, 16, 32] = Field(default=16, description="At every feed-forward linear.")
    fit: FitSettings = Field(description="How the LoRA is trained; the budget replaces max_tokens.")


class RetrievalSettings(BaseModel):
    """The earlier interactions most like the query, put before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["bm25", "dense"] = Field(default="bm25", description="Words in common, or nearness of vectors.")
    items: int = Field(default=4, ge=1, description="Interactions retrieved for a query, the best one last.")
    budget_tokens: int = Field(
        default=64, ge=1, description="Tokens of history before a query, shared among the interactions shown."
    )
    prompt: PromptForm = Field(default="turns", description="More turns before the query, or quoted in its words.")
    encoder: EncoderSettings = Field(default=EncoderSettings(), description="What makes the vectors of by: dense.")


class PlugSettings(BaseModel):
    """Persona-Plug; the paper where paper and released code disagree. Its ablations are values of these fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: EncoderSettings = Field(default=EncoderSettings(), description="The frozen history encoder.")
    history_text: HistoryText | None = Field(
        default=None,
        description="What of an earlier interaction is encoded: {query}, {response}, or both; null: as its task says.",
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


class EventFeature(BaseModel):
    """One feature of an event: an attribute of an interaction, with an embedding table of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attribute: str = Field(description="Key among the interaction's attributes, such as item, rating or categories.")
    separator: str | None = Field(default=None, min_length=1, description="Between several values; null: it has one.")


class UserLLMSettings(BaseModel):
    """User-LLM (arXiv 2402.13598). Sizes that its paper leaves open suit a small base."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[EventFeature, ...] = Field(
        default=(), description="Features of events; empty: an event is the embedding of an interaction (dialogue)."
    )
    fusion: Literal["early", "late"] = Field(
        default="early", description="Features joined before the encoder, or an encoder for each, joined after."
    )
    table_width: int = Field(default=32, ge=1, description="Width of a feature's embeddings.")
    table_size: int = Field(
        default=50_000, ge=1, description="Values of a feature, most frequent first; others: unknown."
    )
    encoder: EncoderSettings = Field(default=EncoderSettings(), description="What embeds interactions.")
    history_text: HistoryText | None = Field(
        default=None, description="What of an earlier interaction is embedded; null: as its task says."
    )
    width: int = Field(default=128, ge=8, description="Width of the user encoder.")
    layers: int = Field(default=2, ge=1, description="Layers of the user encoder.")
    heads: int = Field(default=4, ge=1, description="Attention heads of the user encoder and of the Perceiver.")
    max_events: int = Field(default=64, ge=1, description="Latest events a user is known by.")
    latents: int = Field(
        default=8, ge=0, description="Perceiver latents that a timeline becomes; 0: one for each event."
    )
    contextualise: Literal["cross_attention", "soft_prompt"] = Field(
        default="cross_attention", description="How the language model is given them."
    )
    every: int = Field(default=2, ge=1, description="Cross-attention after each so many layers of the language model.")
    strategy: Literal["full", "encoder", "lora", "projection"] = Field(
        default="encoder",
        description="What is trained with the projections: the language model, the user encoder, a LoRA, or neither.",
    )
    lora_rank: Literal[1, 2, 4, 8, 16, 32] = Field(default=8, description="Of strategy lora, in the feed-forwards.")
    pretrain: FitSettings = Field(description="First stage: the user encoder learns to predict the next event.")
    fit: FitSettings = Field(
        description="Second stage: how the shared weights are trained; the budget is its max_tokens."
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise SettingsError(
                f"heads: {self.heads} given for width {self.width}; allowed are divisors of the width. "
                "Next: change one of the two."
            )
        return self


Method = Literal[
    "base",
    "pooled",
    "recent_history",
    "retrieval",
    "tuned_history",
    "fixed_memory",
    "random_memory",
    "population_memory",
    "memory",
    "memory+retrieval",
    "persona_plug",
    "user_llm",
]


class CompareSettings(BaseModel):
    """Which methods are compared, and how much each may be trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: tuple[Method, ...] = Field(min_length=1, description="In the order in which they are measured.")
    budget_tokens: int = Field(
        ge=1,
        description="Training tokens each method may spend, all compared users together, on top of the pooled model. "
        "What an encoder reads beside a lesson is not counted; the seconds of the costs say what it takes.",
    )
    taught_by: tuple[Literal["background", "pilot", "reported"], ...] = Field(
        min_length=1, description="Whose training rows, and no others, teach weights that all users share."
    )
    recent_history: RecentHistorySettings
    retrieval: RetrievalSettings
    tuned_history: TunedHistorySettings
    persona_plug: PlugSettings
    user_llm: UserLLMSettings

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        if len(set(methods)) < len(methods):
            raise SettingsError(f"methods: {list(methods)} names one twice. Next: name each once.")
        return methods
