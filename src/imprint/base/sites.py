"""Where a LoRA can sit: the linears of each model family (methods, section 1.4), and the sites of a loaded model.

To add a family: one entry in `FAMILIES`, and its name in the tests of this module, which check every entry against a
small model of the real class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from imprint.errors import BaseModelError

if TYPE_CHECKING:
    from torch import nn

FEED_FORWARD = ("gate", "up", "down")
ATTENTION = ("query", "key", "value", "output")


@dataclass(frozen=True, slots=True)
class Family:
    """One model family: the path of its layer list, and of each linear inside a layer by our name for it."""

    layers: str
    linears: Mapping[str, str] = field(hash=False)


_LLAMA = Family(
    layers="model.layers",
    linears={
        "gate": "mlp.gate_proj",
        "up": "mlp.up_proj",
        "down": "mlp.down_proj",
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "output": "self_attn.o_proj",
    },
)
# GPT-2 has no gate, and one fused projection for query, key and value; its Conv1D keeps weights as [in, out].
_GPT2 = Family(
    layers="transformer.h",
    linears={"up": "mlp.c_fc", "down": "mlp.c_proj", "query": "attn.c_attn", "output": "attn.c_proj"},
)
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "olmo2": _LLAMA,
    "gpt2": _GPT2,  # DialoGPT too
}


@dataclass(frozen=True, slots=True)
class Site:
    """One linear of one layer that can carry a LoRA. `transposed`: the weight is stored [in, out] (Conv1D)."""

    name: str
    layer: int
    target: str
    in_features: int
    out_features: int
    transposed: bool

    @property
    def half(self) -> int:
        """Which half of which layer it is in, counted from the embeddings (`trunk`)."""
        return 2 * self.layer + (self.target in FEED_FORWARD)


def sites_of(model: nn.Module) -> tuple[Site, ...]:
    """Every site of a loaded model, by layer, feed-forward first. `BaseModelError` for a family without a map."""
    family = family_of(model)
    count = len(model.get_submodule(family.layers))  # type: ignore[arg-type]
    return tuple(
        _site(model, f"{family.layers}.{layer}.{path}", layer, target)
        for layer in range(count)
        for target, path in family.linears.items()
    )


def family_of(model: nn.Module) -> Family:
    """The site map of the model's family."""
    kind = str(model.config.model_type)  # type: ignore[union-attr]
    if kind not in FAMILIES:
        raise BaseModelError(
            f"base.path: no site map for the family {kind!r}; mapped are {', '.join(sorted(FAMILIES))}. "
            "Next: take a model of one of these, or add an entry to FAMILIES in imprint/base/sites.py."
        )
    return FAMILIES[kind]


def _site(model: nn.Module, name: str, layer: int, target: str) -> Site:
    from transformers.pytorch_utils import Conv1D

    module = model.get_submodule(name)
    transposed = isinstance(module, Conv1D)
    rows, columns = module.weight.shape  # type: ignore[union-attr, misc]
    width_in, width_out = (rows, columns) if transposed else (columns, rows)
    return Site(name, layer, target, int(width_in), int(width_out), transposed)
