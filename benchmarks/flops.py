"""Floating-point operations that training a memory cannot do without; what an implementation adds does not count.

For one user, with T tokens over all steps, R response tokens over all steps, s the lowest layer with a LoRA, E epochs:

    frozen linear in layer >= s        2 · in · out · T     and the same again where its input needs a gradient
    frozen linear in layer <  s        2 · in · out · T / E (its input is the same in every epoch: once an example)
    LoRA of rank r                     2 · r · (in + out) · T forward, as many for the gradients of A and B,
                                       2 · r · out · T back through B, 2 · r · in · T back through A where needed
    attention                          4 · heads · size · pairs forward, pairs = L (L + 1) / 2 for a row of L tokens,
                                       twice that backward where query, key or value need a gradient; below s: / E
    vocabulary projection              2 · hidden · vocabulary · R forward, the same backward to its input

An input needs a gradient where a LoRA comes before it: in a lower layer, or earlier in the same one (query, key and
value, then output, then gate and up, then down). Tokens are counted without padding, in every layer from s on. Norms,
activations, softmax, embeddings and the optimiser are left out: they are not matrix products. For a LoRA at query, key
or value of the lowest layer this counts up to one product of attention too many; the benchmark has none there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from imprint.base.examples import Example
from imprint.base.load import BaseModelInUse
from imprint.base.sites import Site
from imprint.memory.config import MemoryConfig

STAGE = {"query": 0, "key": 0, "value": 0, "output": 2, "gate": 3, "up": 3, "down": 4}
ATTENTION_STAGE = 1


class Counted(NamedTuple):
    """Tokens, response tokens and pairs of tokens that attend, over all rows of a user, once."""

    tokens: int
    responses: int
    pairs: int


def counted(examples: Iterable[Example]) -> Counted:
    """The sizes of a user's rows that operations are counted by."""
    rows = list(examples)
    lengths = [len(row.input_ids) for row in rows]
    pairs = sum(length * (length + 1) // 2 for length in lengths)
    return Counted(sum(lengths), sum(row.response_tokens for row in rows), pairs)


def necessary_flops(base: BaseModelInUse, config: MemoryConfig, examples: Iterable[Example]) -> float:
    """Operations of training one memory of one episode on these rows (module docstring)."""
    ranks = config.site_ranks(base.sites)
    first = min((site.layer, STAGE[site.target]) for site in base.sites if site.name in ranks)
    rows, epochs = counted(examples), config.epochs
    total = sum(_linear(site, ranks.get(site.name, 0), first, epochs) for site in base.sites) * rows.tokens
    total += sum(_attention(base, layer, first, epochs) for layer in range(base.record.layers)) * rows.pairs
    vocabulary, hidden = base.model.get_output_embeddings().weight.shape  # type: ignore[operator]
    return float(total + 4 * hidden * vocabulary * rows.responses * epochs)


def _linear(site: Site, rank: int, first: tuple[int, int], epochs: int) -> int:
    """Operations a token, over all epochs, of a site: its frozen linear and its LoRA."""
    frozen = 2 * site.in_features * site.out_features
    if site.layer < first[0]:
        return frozen
    behind = (site.layer, STAGE[site.target]) > first  # a LoRA comes before: the input needs a gradient
    lora = 4 * rank * (site.in_features + site.out_features) + 2 * rank * site.out_features
    return epochs * (frozen * (2 if behind else 1) + lora + (2 * rank * site.in_features if behind else 0))


def _attention(base: BaseModelInUse, layer: int, first: tuple[int, int], epochs: int) -> int:
    """Operations a pair of tokens, over all epochs, of one layer's attention."""
    config: Any = base.model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    forward = 4 * int(config.num_attention_heads) * int(size)
    if layer < first[0]:
        return forward
    return epochs * forward * (3 if (layer, ATTENTION_STAGE) > first else 1)
