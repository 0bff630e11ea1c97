"""Nats per response token: the one loss that is trained on, searched for and reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from imprint.base.examples import Batch

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

    backbone = model.get_submodule(model.base_model_prefix)  # type: ignore[arg-type]
    hidden = backbone(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[batch.owner, batch.position])  # type: ignore[operator]
    nats = cross_entropy(logits.float(), batch.label, reduction="none")
    return torch.zeros(batch.rows, device=nats.device).index_add(0, batch.owner, nats)


def mean_loss(rows: Sequence[RowLoss]) -> float:
    """Nats per response token over rows: total nats over total tokens."""
    return sum(row.nats for row in rows) / sum(row.tokens for row in rows)
