"""A base model from any of its layers on: what lies below the lowest memory is the same at every step and trial.

    rows ──► embeddings ──► layer 0 … layer s-1 ──► layer s … last ──► norm ──► hidden states
                            └ `inputs_of(rows, s)`, kept ┘ └ `hidden(rows, s, kept)` ┘

It works on packed rows and on the model's own modules, so it holds for every family in `sites.FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from imprint.base.packing import Packed, packed_attention
from imprint.base.sites import family_of


class _LayerReached(Exception):  # noqa: N818 (no error: how a forward pass is left)
    """The layer whose input was wanted; raised to leave the model's forward there."""


class Trunk:
    """The layers of a causal LM without its vocabulary projection."""

    def __init__(self, model: nn.Module) -> None:
        """A trunk of a loaded model of a mapped family."""
        self._model = model
        self._backbone: Any = model.get_submodule(model.base_model_prefix)  # type: ignore[arg-type]
        path, self._name = family_of(model).layers.rsplit(".", 1)
        self._parent = model.get_submodule(path)
        self._layers: Any = getattr(self._parent, self._name)

    def hidden(self, rows: Packed, start: int = 0, inputs: torch.Tensor | None = None) -> torch.Tensor:
        """Hidden states after the last layer's norm, [slots · tokens, hidden].

        With `inputs` ([slots, tokens, hidden], what layer `start` is given) the layers below `start` do not run.
        """
        if not start or inputs is None:
            return self._run(rows).flatten(0, 1)
        with self._layers_from(start), _given(self._layers[start], inputs):
            return self._run(rows).flatten(0, 1)

    def inputs_of(self, rows: Packed, start: int) -> torch.Tensor:
        """What layer `start` is given for these rows, [slots, tokens, hidden]; no layer from `start` on runs."""
        found = []

        def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(args[0] if args else kwargs["hidden_states"])
            raise _LayerReached

        handle = self._layers[start].register_forward_pre_hook(leave, with_kwargs=True)
        try:
            with torch.no_grad():
                self._run(rows)
        except _LayerReached:
            pass
        finally:
            handle.remove()
        return found[0]

    def _run(self, rows: Packed) -> torch.Tensor:
        with packed_attention(self._model, rows):
            return self._backbone(input_ids=rows.ids, position_ids=rows.positions, use_cache=False).last_hidden_state

    @contextmanager
    def _layers_from(self, start: int) -> Iterator[None]:
        setattr(self._parent, self._name, self._layers[start:])
        try:
            yield
        finally:
            setattr(self._parent, self._name, self._layers)


@contextmanager
def _given(layer: nn.Module, inputs: torch.Tensor) -> Iterator[None]:
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
