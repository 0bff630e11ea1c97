"""The trained part of Persona-Plug (arXiv 2409.11901, section 3): a history as two vectors.

    (1) h_i = Enc_his(h_i)                        frozen, [n, width]
    (2) x   = Enc_input(x_u)                      trained, [width]
    (3) w_i = exp(x · h_i) / Σ_k exp(x · h_k)     no temperature
    (4) P_u = s Σ_i w_i Proj(h_i)                 Proj: Linear(width, d) – GELU – Linear(d, d)
    (5) X   = [bos ; I ; P_u ; Emb(x_u) ; Emb(y)] I: learned instruction vector, [d]

`s` is the mean length of the model's token embeddings; the released code has the constant of its own model there. Its
ablations are parameters: no instruction, mean pooling (w_i = 1/n), only the k best of the history.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from imprint.personalizers.encoders import TextEncoder
from imprint.personalizers.settings import PlugSettings

INSTRUCTION_SHARE = 1 / 7
"""The released code scales the projected instruction down by this much."""


class PersonaPlug(nn.Module):
    """Histories and queries to soft tokens. One set of weights for everybody."""

    def __init__(self, encoder: TextEncoder, hidden: int, scale: float, settings: PlugSettings) -> None:
        """`encoder` is the frozen one, of which a copy is trained; `hidden` and `scale` are the language model's."""
        super().__init__()
        self._settings, self._scale = settings, scale
        self.query_encoder = None if settings.weights == "mean" and settings.top is None else encoder.trainable()
        self.projector = _two_layers(encoder.width, hidden)
        self.instruction: nn.Parameter | None = None
        self.instruction_projector: nn.Module | None = None
        if settings.instruction == "vector":
            self.instruction = nn.Parameter(torch.randn(hidden) / math.sqrt(hidden))
        elif settings.instruction == "projected":
            self.instruction = nn.Parameter(torch.rand(encoder.width))
            self.instruction_projector = _two_layers(encoder.width, hidden)

    @property
    def tokens(self) -> int:
        """Soft tokens of one row."""
        return 1 if self.instruction is None else 2

    def forward(self, queries: list[str], histories: Tensor, owner: Tensor, shown: Tensor) -> Tensor:
        """Soft tokens [rows, tokens, hidden].

        `histories` [users, n, width] are frozen vectors; row r is of user `owner[r]`, known by `shown[r]` [n], a mask.
        """
        mine = histories[owner]
        likeness = mine.new_zeros(mine.shape[:2])
        if self.query_encoder is not None:
            likeness = torch.einsum("rnw,rw->rn", mine, self.query_encoder.queries(queries))
        if self._settings.top is not None:
            shown = shown & among_best(likeness.masked_fill(~shown, -math.inf), self._settings.top)
        weights = attention(likeness if self._settings.weights == "softmax" else likeness * 0, shown)
        projected = self.projector(histories)[owner]
        person = self._scale * torch.einsum("rn,rnh->rh", weights, projected)
        if self.instruction is None:
            return person[:, None]
        instruction = self._scale * self.instruction
        if self.instruction_projector is not None:
            instruction = self._scale * INSTRUCTION_SHARE * self.instruction_projector(self.instruction)
        return torch.stack([instruction.expand_as(person), person], dim=1)


def attention(likeness: Tensor, shown: Tensor) -> Tensor:
    """Equation (3) over the places that are `shown`: [rows, n] → [rows, n]; all zero for an empty history."""
    # finite, so that an empty history gives no gradient instead of one that is not a number
    return likeness.masked_fill(~shown, torch.finfo(likeness.dtype).min).softmax(-1) * shown


def among_best(likeness: Tensor, count: int) -> Tensor:
    """Whether a place is among the `count` highest of its row, [rows, n]."""
    best = likeness.topk(min(count, likeness.shape[1]), dim=-1).indices
    return torch.zeros_like(likeness, dtype=torch.bool).scatter_(1, best, True)


def _two_layers(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
