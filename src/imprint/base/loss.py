"""Nats per response token: the one loss that is trained on, searched for and reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from imprint.base.examples import Batch
from imprint.base.families import before_vocabulary, first_position, is_encoder_decoder, logits_of, reader_of

if TYPE_CHECKING:
    import torch
    from torch import nn


class RowLoss(NamedTuple):
    """The loss of one row: summed nats, and the response tokens they are summed over."""

    record_id: str
    nats: float
    tokens: int


def nats_per_row(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Summed negative log-likelihood of each row's response, [rows], differentiable.

    The vocabulary projection is computed at response positions only, which is where most of a small model's work is.
    """
    import torch
    from torch.nn.functional import cross_entropy

    nats = cross_entropy(logits_of(model, _at_labels(model, batch)).float(), batch.label, reduction="none")
    return torch.zeros(batch.rows, device=nats.device).index_add(0, batch.owner, nats)


def nats_of(model: nn.Module, hidden: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of each label, [labels] fp32, read from hidden states [labels, hidden]."""
    from imprint.base.fused import nats_per_label

    return nats_per_label(before_vocabulary(model, hidden), model.get_output_embeddings(), label)  # type: ignore[operator]


def _at_labels(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Hidden states that the labels are read from, by the model's own forward pass, [labels, hidden]."""
    if is_encoder_decoder(model):
        from imprint.base.encoder_decoder import halved, read

        return read(model, halved(model, batch))
    import torch

    first = first_position(model)
    places = torch.arange(first, first + batch.input_ids.shape[1], device=batch.input_ids.device)[None]
    states = reader_of(model)(input_ids=batch.input_ids, position_ids=places, use_cache=False).last_hidden_state
    hidden: torch.Tensor = states[batch.owner, batch.position]
    return hidden


def mean_loss(rows: Sequence[RowLoss]) -> float:
    """Nats per response token over rows: total nats over total tokens."""
    return sum(row.nats for row in rows) / sum(row.tokens for row in rows)
