"""Encoder-decoder models (T5): the encoder reads the query, the decoder writes the response.

    an example     query <eos> │ response <eos>       the form of every family, without a `bos` that T5 does not have
    the encoder    query <eos>                        every token sees every other, and no padding
    the decoder    <start> response                   each token sees those before it, and the whole query
    labels                    response <eos>

Rows are padded to one width, and slots to one number of rows: attention here depends on the distance of two tokens, so
rows cannot lie end to end as in `packing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from imprint.base.examples import Batch, Example, collate
from imprint.base.fused import TWICE, replaced
from imprint.base.sites import layers_of
from imprint.errors import BaseModelError


@dataclass(frozen=True)
class Halved:
    """Rows as encoder and decoder are given them.

    `query` is [rows, width] ids and `real` says which are there; `given` is [rows, tokens] ids for the decoder. At flat
    place `place` of `given`, [labels], the next token is a label.
    """

    query: Tensor
    real: Tensor
    given: Tensor
    place: Tensor


@dataclass(frozen=True)
class Padded:
    """Rows of several slots; `owner`, `row` and `label`, each [response tokens], are as in `packing.Packed`."""

    halves: Halved
    owner: Tensor
    row: Tensor
    label: Tensor


class EncoderDecoder:
    """The layers of an encoder-decoder model without its vocabulary projection; to a fleet what a `Trunk` is."""

    def __init__(self, model: nn.Module) -> None:
        """Of a loaded model of a mapped family."""
        self._model = model

    def rows(self, slots: Sequence[Sequence[Example]], device: Any = "cpu") -> Padded:
        """The rows of each slot, filled up with empty ones."""
        most = max(len(slot) for slot in slots)
        batch = collate([row for slot in slots for row in (*slot, *[None] * (most - len(slot)))], device=device)
        before = torch.tensor([sum(len(slot) for slot in slots[:place]) for place in range(len(slots))], device=device)
        owner = batch.owner // most
        return Padded(halved(self._model, batch), owner, before[owner] + batch.owner % most, batch.label)

    def entrance(self, half: int) -> int:
        """The first: an encoder's states and a decoder's are both needed by every later layer."""
        return 0

    def at_labels(self, rows: Padded, start: int = 0, inputs: Tensor | None = None, recompute: bool = False) -> Tensor:
        """Hidden states that the labels are read from, [response tokens, hidden].

        With `recompute` a layer keeps its input alone and runs again in the backward pass.
        """
        layers = [(layer, partial(TWICE, layer.forward)) for layer in layers_of(self._model)] if recompute else []
        with replaced(layers) if recompute else nullcontext():
            return read(self._model, rows.halves)

    def states(self, rows: Padded) -> Tensor:
        """Hidden states of the response's tokens, [response tokens, hidden]."""
        return self.at_labels(rows)


def read(model: nn.Module, rows: Halved) -> Tensor:
    """The decoder's hidden states that labels are read from, [labels, hidden]."""
    encoder, decoder = model.get_submodule("encoder"), model.get_submodule("decoder")
    encoded = encoder(input_ids=rows.query, attention_mask=rows.real).last_hidden_state
    decoded = decoder(
        input_ids=rows.given, encoder_hidden_states=encoded, encoder_attention_mask=rows.real, use_cache=False
    ).last_hidden_state
    hidden: Tensor = decoded.flatten(0, 1).index_select(0, rows.place)
    return hidden


def halved(model: nn.Module, batch: Batch) -> Halved:
    """A batch for encoder and decoder: a row up to where its response starts, and its response one place later."""
    first = batch.starts[batch.owner]
    within = batch.position + 1 - first
    width, tokens = int(batch.starts.max()), int(within.max()) + 1
    real = torch.arange(width, device=first.device) < batch.starts[:, None]
    given = batch.input_ids.new_full((batch.rows, tokens + 1), start_of(model))
    given[batch.owner, within + 1] = batch.label
    return Halved(batch.input_ids[:, :width] * real, real.long(), given[:, :tokens], batch.owner * tokens + within)


def start_of(model: nn.Module) -> int:
    """The id that a decoder is given before the first token of a response. `BaseModelError` where there is none."""
    config: Any = model.config
    for name in ("decoder_start_token_id", "pad_token_id"):
        found = getattr(config, name, None)
        if found is not None:
            return int(found)
    raise BaseModelError(
        "base.path: the model's config has neither decoder_start_token_id nor pad_token_id, one of which begins a "
        "decoder's response; next: set one of them in its config.json."
    )
