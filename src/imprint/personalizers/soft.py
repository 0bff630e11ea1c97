"""Soft tokens: places in a prompt that hold a vector instead of a word.

A place is written as `SOFT` among the token ids, so that rows with soft tokens are rows like any others: they are
padded, scored and continued by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from imprint.base.families import prompt_embedding

SOFT = -1
"""The id of a place for a soft token: no word has it."""


@contextmanager
def soft_tokens(model: nn.Module, vectors: Tensor) -> Iterator[None]:
    """Within the block the places `SOFT` of a batch are embedded as `vectors` [places, hidden], row by row in order.

    A pass without such places, as each later one of a generation, is left as it is. Gradients reach `vectors`.
    """
    embedding: Any = prompt_embedding(model)
    places: list[Tensor] = []

    def read(module: nn.Module, ids: tuple[Tensor]) -> tuple[Tensor]:
        places.append(ids[0] == SOFT)
        return (ids[0].masked_fill(places[-1], 0),)

    def put(module: nn.Module, ids: tuple[Tensor], embedded: Tensor) -> Tensor:
        here = places.pop()
        return embedded.index_put((here,), vectors.to(embedded.dtype)) if bool(here.any()) else embedded

    handles = embedding.register_forward_pre_hook(read), embedding.register_forward_hook(put)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def embedding_norm(model: nn.Module) -> float:
    """Mean length of the model's token embeddings: the scale at which a soft token is one among them (methods, 3.2)."""
    return float(prompt_embedding(model).weight.detach().float().norm(dim=-1).mean())


def embedding_width(model: nn.Module) -> int:
    """Numbers in a token's embedding, and so in a soft token; a few models (OPT-350M) have wider layers."""
    return prompt_embedding(model).embedding_dim
