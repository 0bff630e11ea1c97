"""What a person may choose about the base model."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Format = Literal["float32", "mixed", "bfloat16"]
"""What a frozen base is kept and computes in. mixed: kept in fp32, and products in bf16 while a fleet trains."""
Dtype = Literal["auto"] | Format
Device = Literal["auto", "cpu", "cuda"]


class FitSettings(BaseModel):
    """How one set of weights is trained (`base/fit.py`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(gt=0, le=1, description="Peak learning rate of AdamW, reached after the warm-up.")
    epochs: int = Field(ge=1, le=100, description="Passes over the training rows.")
    batch_rows: int = Field(default=16, ge=1, description="Rows in one step.")
    max_tokens: int | None = Field(default=None, ge=1, description="Stop after about this many tokens, if sooner.")
    warmup_share: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps with a rising learning rate.")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's decoupled weight decay.")
    clip_norm: float = Field(default=1.0, gt=0, description="Gradients are scaled down to at most this norm.")


class EmbeddedSettings(BaseModel):
    """The embedded default: a small LLaMA trained on the corpus itself. Bounded in tokens, so that runs repeat."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Literal["auto", "tiny", "mini", "small", "medium"] = Field(
        default="auto", description="Shape of the model; auto takes the one that suits the words of training text."
    )
    vocabulary: int | None = Field(default=None, ge=300, description="Tokens of the byte-level BPE; null follows size.")
    min_background_rows: int = Field(
        default=2000,
        ge=0,
        description="With fewer background training rows than this, all users' training rows are used.",
    )
    fit: FitSettings = Field(description="How it is trained.")


class BaseSettings(BaseModel):
    """Which base model, and how much of an interaction it reads."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    path: str | None = Field(
        default=None,
        description="Folder, URL or hub id of a Hugging Face model of a known family; null: train the embedded one.",
    )
    device: Device = Field(default="auto", description="Where the base computes; auto: on CUDA where there is one.")
    dtype: Dtype = Field(
        default="auto",
        description="What the frozen base computes in; auto: bfloat16, or mixed, where bf16 is much faster.",
    )
    max_query_tokens: int = Field(default=48, ge=1, description="A longer query keeps its end.")
    max_response_tokens: int = Field(default=64, ge=1, description="A longer response keeps its beginning.")
    embedded: EmbeddedSettings


class PooledSettings(BaseModel):
    """The pooled stage: one LoRA for all training users, merged into the base."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="False trains the memories on the raw base.")
    rank: Literal[1, 2, 4, 8, 16, 32] = Field(default=16, description="Rank at every feed-forward linear.")
    alpha_ratio: float = Field(default=2.0, gt=0, le=64, description="lora_alpha / rank.")
    fit: FitSettings
