"""What families do each in their own way between token ids and logits; their linears are in `sites`.

ids ──► table of embeddings (+ positions) ──► layers ──► hidden states ──► `before_vocabulary` ──► vocabulary
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether one stack of layers reads the query and another writes the response."""
    return bool(model.config.is_encoder_decoder)  # type: ignore[union-attr]


def reader_of(model: nn.Module) -> nn.Module:
    """The part that turns the ids of a prompt into hidden states: an encoder, or all but the vocabulary."""
    if is_encoder_decoder(model):
        return model.get_submodule("encoder")
    return model.get_submodule(model.base_model_prefix)  # type: ignore[arg-type]


def prompt_embedding(model: nn.Module) -> nn.Embedding:
    """The table that the ids of a prompt go through. An encoder's is a module of its own around shared weights."""
    found: nn.Embedding = reader_of(model).get_input_embeddings()  # type: ignore[operator]
    return found


def first_position(model: nn.Module) -> int:
    """The number of a row's first position. RoBERTa counts from the one after its padding's."""
    config: Any = model.config
    return int(config.pad_token_id) + 1 if config.model_type == "roberta" else 0


def before_vocabulary(model: nn.Module, hidden: Tensor) -> Tensor:
    """What the vocabulary's projection (`get_output_embeddings`) is given, for hidden states [..., hidden].

    RoBERTa has a layer between; T5 scales where its embeddings are its projection.
    """
    from torch.nn.functional import gelu

    config: Any = model.config
    if config.model_type == "roberta":
        head: Any = model.lm_head
        between: Tensor = head.layer_norm(gelu(head.dense(hidden)))
        return between
    if getattr(config, "scale_decoder_outputs", False):
        scaled: Tensor = hidden * config.d_model**-0.5
        return scaled
    return hidden


def logits_of(model: nn.Module, hidden: Tensor) -> Tensor:
    """Logits of the next token, [..., vocabulary], where hidden states are [..., hidden]."""
    logits: Tensor = model.get_output_embeddings()(before_vocabulary(model, hidden))  # type: ignore[operator]
    return logits
