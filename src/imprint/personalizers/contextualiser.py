"""How User-LLM gives a language model a user's states (arXiv 2402.13598, section 3.2).

    E [rows, L + 1, width] ──► Perceiver: N latents attend to E ──► [rows, N, width]
       soft prompt       N vectors before the query
       cross-attention   after some layers i: O_i ← O_i + tanh(α_i) CrossAttn(O_i, E), O_i ← O_i + tanh(β_i) FFN(O_i)

Both gates are zero at the start, so that the model's output is then exactly what it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from imprint.base.sites import layers_of


class Perceiver(nn.Module):
    """States of any number to `latents` of them: trained queries that attend to the states, once."""

    def __init__(self, width: int, heads: int, latents: int) -> None:
        """`heads` must divide `width`."""
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = _feed_forward(width)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """[rows, L, width] with `real` [rows, L] to [rows, latents, width]."""
        queries = self.latents.expand(len(states), -1, -1)
        seen = self.norm(states)
        x = queries + self.attention(queries, seen, seen, key_padding_mask=~real, need_weights=False)[0]
        compressed: Tensor = x + self.feed_forward(x)
        return compressed


class SoftPrompt(nn.Module):
    """States as vectors of the length that the model's token embeddings have."""

    def __init__(self, width: int, hidden: int, scale: float) -> None:
        """`hidden` and `scale` are the language model's."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, hidden)
        self._scale = scale / math.sqrt(hidden)

    def forward(self, states: Tensor) -> Tensor:
        """[…, width] to […, hidden]."""
        vectors: Tensor = self._scale * self.project(self.norm(states))
        return vectors


class GatedCrossAttention(nn.Module):
    """One block behind one layer: what the layer says, and through a gate what it reads of the user."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        """`hidden` and `heads` are the language model's; keys and values are states of `width`."""
        super().__init__()
        self.norm, self.norm_states = nn.LayerNorm(hidden), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(hidden, heads, kdim=width, vdim=width, batch_first=True)
        self.feed_forward = _feed_forward(hidden)
        self.gate = nn.Parameter(torch.zeros(()))
        self.gate_feed_forward = nn.Parameter(torch.zeros(()))

    def forward(self, said: Tensor, states: Tensor, real: Tensor) -> Tensor:
        """`said` [rows, tokens, hidden], with `states` [rows, L, width] of which some are `real` [rows, L]."""
        user, wide = self.norm_states(states), said.float()
        read = self.attention(self.norm(wide), user, user, key_padding_mask=~real, need_weights=False)[0]
        wide = wide + self.gate.tanh() * read
        answer: Tensor = wide + self.gate_feed_forward.tanh() * self.feed_forward(wide)
        return answer.to(said.dtype)


@contextmanager
def attending(
    model: nn.Module, layers: Sequence[int], blocks: Sequence[nn.Module], states: Tensor, real: Tensor
) -> Iterator[None]:
    """Within the block each named layer of the model is followed by its block, for rows with these states."""
    every = layers_of(model)

    def follow(block: nn.Module, module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):  # some families return more than the hidden states
            return (block(output[0], states, real), *output[1:])
        return block(output, states, real)

    with ExitStack() as hooks:
        for layer, block in zip(layers, blocks, strict=True):
            hooks.callback(every[layer].register_forward_hook(partial(follow, block)).remove)
        yield


def layers_with_blocks(count: int, every: int) -> list[int]:
    """Every so many of `count` layers, counted from the first; the last where there are fewer."""
    return list(range(every - 1, count, every)) or [count - 1]


def _feed_forward(width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
