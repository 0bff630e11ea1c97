"""The user encoder of User-LLM (arXiv 2402.13598, section 3.1): an autoregressive transformer over a user's events.

    e_i = Linear(concat_m Table_m[x_i,m])          early fusion: one transformer; late: one a feature, outputs joined
    h_0 … h_L = CausalTransformer(start, e_1 … e_L)
    Σ_m cross-entropy(head_m(h_i), x_{i+1,m})      the next event, over values of each feature

Where events are vectors (embeddings of what was said), the next one is told from all others of the batch (InfoNCE):
-log softmax_j(cos(head(h_i), e_j) / τ) at j = i + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from imprint.personalizers.events import NOTHING
from imprint.personalizers.settings import UserLLMSettings

TEMPERATURE = 0.1


class UserEncoder(nn.Module):
    """Events [rows, L, …] to states [rows, L + 1, width]; state i knows the first i events and no other."""

    def __init__(self, settings: UserLLMSettings, sizes: list[int], vector: int) -> None:
        """`sizes` are those of the features' tables; without features, events are vectors of width `vector`."""
        super().__init__()
        width = settings.width
        self._late = bool(sizes) and settings.fusion == "late"
        self.tables = nn.ModuleList(nn.Embedding(size, settings.table_width, padding_idx=NOTHING) for size in sizes)
        parts = settings.table_width * (1 if self._late else len(sizes)) if sizes else vector
        towers = len(sizes) if self._late else 1
        self.inputs = nn.ModuleList(nn.Linear(parts, width) for _ in range(towers))
        self.towers = nn.ModuleList(_Tower(settings) for _ in range(towers))
        self.join = nn.Linear(towers * width, width) if self._late else nn.Identity()
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in sizes or [vector])

    def forward(self, events: Tensor) -> Tensor:
        """States of a batch of timelines, padded at their ends."""
        streams = [events] if not self.tables else self._embedded(events)
        states = [
            tower(inputs(stream)) for tower, inputs, stream in zip(self.towers, self.inputs, streams, strict=True)
        ]
        joined: Tensor = self.join(torch.cat(states, dim=-1))
        return joined

    def next_event_loss(self, events: Tensor, real: Tensor) -> Tensor:
        """Mean loss of predicting each event that is `real` [rows, L] from those before it."""
        before = self(events)[:, :-1][real]
        if not self.tables:
            target = events[real]
            likeness = normalize(self.heads[0](before), dim=-1) @ normalize(target, dim=-1).T / TEMPERATURE
            return nn.functional.cross_entropy(likeness, torch.arange(len(target), device=target.device))
        losses = [_values_loss(head(before), events[real][:, place]) for place, head in enumerate(self.heads)]
        return torch.stack(losses).sum()

    def _embedded(self, events: Tensor) -> list[Tensor]:
        """Events [rows, L, features, values]: the mean of each feature's values; joined in early fusion."""
        found = []
        for place, table in enumerate(self.tables):
            ids = events[:, :, place]
            count = (ids != NOTHING).sum(-1, keepdim=True).clamp(min=1)
            found.append(table(ids).sum(-2) / count)
        return found if self._late else [torch.cat(found, dim=-1)]


class _Tower(nn.Module):
    """A causal pre-norm transformer with learned positions and a learned start."""

    def __init__(self, settings: UserLLMSettings) -> None:
        super().__init__()
        width = settings.width
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Embedding(settings.max_events + 1, width)
        layer = nn.TransformerEncoderLayer(
            width, settings.heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, settings.layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )

    def forward(self, events: Tensor) -> Tensor:
        rows, length, _ = events.shape
        x = torch.cat([self.start.expand(rows, 1, -1), events], dim=1)
        x = x + self.positions(torch.arange(length + 1, device=events.device))
        mask = nn.Transformer.generate_square_subsequent_mask(length + 1, device=events.device)
        states: Tensor = self.layers(x, mask=mask, is_causal=True)
        return states


def _values_loss(logits: Tensor, values: Tensor) -> Tensor:
    """Cross-entropy against the values [events, values] of one feature, each event's weighing alike."""
    real = values != NOTHING
    nats = -logits.log_softmax(-1).gather(1, values) * real
    events = real.any(-1)
    return ((nats.sum(-1) / real.sum(-1).clamp(min=1)) * events).sum() / events.sum().clamp(min=1)
