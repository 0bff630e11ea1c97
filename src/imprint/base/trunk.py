"""A base model from any half of a layer on: what lies below the lowest memory is the same at every step and trial.

    rows ──► embeddings ──► half 0 … half s-1 ──► half s … last ──► norm ──► hidden states
                            └ `inputs_of(rows, s)`, kept ┘ └ `hidden(rows, s, kept)` ┘

Half 2n is layer n's attention, half 2n + 1 its feed-forward. It works on packed rows and on the model's own modules, so
it holds for every causal family in `sites.FAMILIES`; those that do not come apart (`halves`) are entered at whole
layers. Encoder-decoder models have a trunk of their own (`encoder_decoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from imprint.base.attention import Turn
from imprint.base.encoder_decoder import EncoderDecoder
from imprint.base.examples import Example
from imprint.base.families import first_position, is_encoder_decoder
from imprint.base.fused import TWICE, normed_sum, replaced, summed
from imprint.base.halves import InRows, Stream, at_answers, in_halves, last_attention, run_half
from imprint.base.packing import Packed, of_real_tokens, pack, packed_attention
from imprint.base.sites import family_of

_WARNING = "warn_if_padding_and_no_attention_mask"


class Layers(Protocol):
    """How rows of many users go through a model: packed through a `Trunk`, or padded through an `EncoderDecoder`."""

    def rows(self, slots: Sequence[Sequence[Example]], device: Any = "cpu") -> Any:
        """The rows of each slot as one batch, with the `owner`, `row` and `label` of every response token."""
        ...

    def entrance(self, half: int) -> int:
        """The highest half, not above this one, at which the model can be entered."""
        ...

    def at_labels(self, rows: Any, start: int = 0, inputs: Tensor | None = None, recompute: bool = False) -> Tensor:
        """Hidden states that the labels are read from, [response tokens, hidden]."""
        ...

    def states(self, rows: Any) -> Tensor:
        """Hidden states after the last layer's norm of every token that a model writes states of, [tokens, hidden]."""
        ...


def layers_for(model: nn.Module) -> Layers:
    """The way through a loaded model of a mapped family."""
    return EncoderDecoder(model) if is_encoder_decoder(model) else Trunk(model)


class _LayerReached(Exception):  # noqa: N818 (no error: how a forward pass is left)
    """The layer whose input was wanted; raised to leave the model's forward there."""


class Trunk:
    """The layers of a causal LM without its vocabulary projection."""

    def __init__(self, model: nn.Module) -> None:
        """A trunk of a loaded model of a mapped family."""
        self._model = model
        self._backbone: Any = model.get_submodule(model.base_model_prefix)  # type: ignore[arg-type]
        path, self._name = family_of(model).stacks[0].layers.rsplit(".", 1)
        self._parent = model.get_submodule(path)
        self._layers: Any = getattr(self._parent, self._name)
        self._in_halves = in_halves(model)
        self._first_position = first_position(model)

    def rows(self, slots: Sequence[Sequence[Example]], device: Any = "cpu") -> Packed:
        """The rows of each slot, packed."""
        return pack(slots, device)

    def entrance(self, half: int) -> int:
        """The highest half, not above this one, at which the model can be entered."""
        return half if self._in_halves else half // 2 * 2

    def states(self, rows: Packed) -> Tensor:
        """Hidden states after the last layer's norm of every token of a row, [tokens, hidden]."""
        by_slot = self.hidden(rows).unflatten(0, rows.ids.shape)
        return torch.cat([whole[:size] for whole, size in zip(by_slot, rows.sizes, strict=True)])

    def hidden(self, rows: Packed, start: int = 0, inputs: Tensor | None = None, recompute: bool = False) -> Tensor:
        """Hidden states after the last layer's norm, [slots · tokens, hidden], of what fills a slot up too.

        With `inputs` ([slots, tokens, hidden], what half `start`, an entrance, is given) nothing below `start` runs.
        With `recompute` a layer keeps its input alone and runs again in the backward pass, which must therefore find
        the modules of the forward pass in place.
        """
        if self._in_halves:
            whole = self._halves(rows, start, 2 * len(self._layers), inputs, recompute)
            return normed_sum(self._backbone.norm, *whole)[1].flatten(0, 1)
        with self._twice(rows, start // 2) if recompute else nullcontext():
            if not start or inputs is None:
                return self._run(rows).flatten(0, 1)
            with self._layers_from(start // 2), _given(self._layers[start // 2], inputs):
                return self._run(rows).flatten(0, 1)

    def at_labels(self, rows: Packed, start: int = 0, inputs: Tensor | None = None, recompute: bool = False) -> Tensor:
        """Hidden states that the labels are read from, [response tokens, hidden]; the other arguments as in `hidden`.

        Where the model comes apart, no other token of its last layer does more than be looked at.
        """
        if not self._in_halves:
            return self.hidden(rows, start, inputs, recompute)[rows.place]
        last = 2 * len(self._layers) - 1
        stream: Stream
        if inputs is not None and start == last:
            stream, attend = (at_answers(inputs, rows), None), self._in_rows(inputs, rows)
        else:
            stream = self._halves(rows, start, last - 1, inputs, recompute)
            attend = self._in_rows(stream[0], rows)
            given = self._layers, stream, attend
            stream = TWICE(last_attention, *given) if recompute else last_attention(*given)
        with of_real_tokens(rows.answer_sizes):
            stream = run_half(last, self._layers, stream, attend)
        return normed_sum(self._backbone.norm, *stream)[1].flatten(0, 1).index_select(0, rows.answer)

    def inputs_of(self, rows: Packed, start: int) -> Tensor:
        """What half `start`, an entrance, is given for these rows, [slots, tokens, hidden]; nothing above it runs."""
        if self._in_halves:
            with torch.no_grad():
                return summed(*self._halves(rows, 0, start))
        found = []

        def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(args[0] if args else kwargs["hidden_states"])
            raise _LayerReached

        handle = self._layers[start // 2].register_forward_pre_hook(leave, with_kwargs=True)
        try:
            with torch.no_grad():
                self._run(rows)
        except _LayerReached:
            pass
        finally:
            handle.remove()
        return found[0]

    def _halves(
        self, rows: Packed, start: int, stop: int, inputs: Tensor | None = None, recompute: bool = False
    ) -> Stream:
        if inputs is None:
            start = 0
        stream: Stream = self._backbone.embed_tokens(rows.ids) if inputs is None else inputs, None
        attend = self._in_rows(stream[0], rows)

        def run(stream: Stream, first: int, end: int) -> Stream:
            with of_real_tokens(rows.sizes):
                for half in range(first, end):
                    stream = run_half(half, self._layers, stream, attend)
            return stream

        while start < stop:  # a layer at a time, which is what is computed twice
            end = min(start // 2 * 2 + 2, stop)
            stream = TWICE(run, stream, start, end) if recompute else run(stream, start, end)
            start = end
        return stream

    def _in_rows(self, like: Tensor, rows: Packed) -> InRows:
        return InRows(rows, _turn(self._backbone.rotary_emb, rows.width, like.dtype, like.device))

    def _run(self, rows: Packed) -> Tensor:
        with packed_attention(self._model, rows), _unwarned(self._backbone):
            places = rows.positions + self._first_position
            return self._backbone(input_ids=rows.ids, position_ids=places, use_cache=False).last_hidden_state

    def _twice(self, rows: Packed, start: int) -> AbstractContextManager[None]:
        """Within the block the layers from `start` on, run whole, are computed again in the backward pass."""

        def twice(forward: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                # once more, because on a card the backward pass runs on a thread that inherits no context
                with packed_attention(self._model, rows):
                    return forward(*args, **kwargs)

            return partial(TWICE, run)

        return replaced([(layer, twice(layer.forward)) for layer in self._layers[start:]])

    @contextmanager
    def _layers_from(self, start: int) -> Iterator[None]:
        setattr(self._parent, self._name, self._layers[start:])
        try:
            yield
        finally:
            setattr(self._parent, self._name, self._layers)


@lru_cache(maxsize=8)  # a step asks two or three times, and the next one has rows of about the same width
def _turn(rotary: nn.Module, width: int, dtype: torch.dtype, device: torch.device) -> Turn:
    """Cosine and sine of the positions of a row, [width, head size]."""
    with torch.no_grad():
        cos, sin = rotary(torch.empty(0, dtype=dtype, device=device), torch.arange(width, device=device)[None])
    return cos[0], sin[0]


@contextmanager
def _unwarned(backbone: nn.Module) -> Iterator[None]:
    """Within the block ids with padding and without a mask are no reason for Hugging Face's warning.

    Packed attention hides what fills rows up, and looking for it among the ids makes a card wait in every step.
    """
    vars(backbone)[_WARNING] = lambda *_: None
    try:
        yield
    finally:
        del vars(backbone)[_WARNING]


@contextmanager
def _given(layer: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Within the block `layer` takes `inputs` for its hidden states, whatever the model hands it."""

    def replace(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (inputs, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": inputs}

    handle = layer.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
