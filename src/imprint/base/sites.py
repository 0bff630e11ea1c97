"""Where a LoRA can sit: the linears of each model family, and the sites of a loaded model.

To add a family: one entry in `FAMILIES`, and its name in the tests of this module, which check every entry against a
small model of the real class. What a family does in its own way between token ids and logits is in `families`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imprint.errors import BaseModelError

if TYPE_CHECKING:
    from torch import nn

FEED_FORWARD = ("gate", "up", "down")
ATTENTION = ("query", "key", "value", "output")


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers one after another: the path of their list, and of each linear inside a layer by our name for it."""

    layers: str
    linears: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Family:
    """One model family: its stacks of layers, one, or an encoder's and then a decoder's."""

    stacks: tuple[Stack, ...]


_LLAMA = Family(
    (
        Stack(
            "model.layers",
            {
                "gate": "mlp.gate_proj",
                "up": "mlp.up_proj",
                "down": "mlp.down_proj",
                "query": "self_attn.q_proj",
                "key": "self_attn.k_proj",
                "value": "self_attn.v_proj",
                "output": "self_attn.o_proj",
            },
        ),
    )
)
# GPT-2 has no gate, and one fused projection for query, key and value; its Conv1D keeps weights as [in, out].
_GPT2 = Family(
    (Stack("transformer.h", {"up": "mlp.c_fc", "down": "mlp.c_proj", "query": "attn.c_attn", "output": "attn.c_proj"}),)
)
# Query, key and value are one projection here too, head by head.
_GPT_NEOX = Family(
    (
        Stack(
            "gpt_neox.layers",
            {
                "up": "mlp.dense_h_to_4h",
                "down": "mlp.dense_4h_to_h",
                "query": "attention.query_key_value",
                "output": "attention.dense",
            },
        ),
    )
)
# The feed-forward is no module of its own: its linears are the layer's.
_OPT = Family(
    (
        Stack(
            "model.decoder.layers",
            {
                "up": "fc1",
                "down": "fc2",
                "query": "self_attn.q_proj",
                "key": "self_attn.k_proj",
                "value": "self_attn.v_proj",
                "output": "self_attn.out_proj",
            },
        ),
    )
)
_ROBERTA = Family(
    (
        Stack(
            "roberta.encoder.layer",
            {
                "up": "intermediate.dense",
                "down": "output.dense",
                "query": "attention.self.query",
                "key": "attention.self.key",
                "value": "attention.self.value",
                "output": "attention.output.dense",
            },
        ),
    )
)


def _t5(**feed_forward: str) -> Family:
    """The first T5 has one linear before the activation; T5 v1.1 and Flan-T5 have a gate beside it."""
    attention = {"query": "q", "key": "k", "value": "v", "output": "o"}
    of_attention = {target: f"layer.0.SelfAttention.{name}" for target, name in attention.items()}
    stacks = []
    for name, place in (("encoder", 1), ("decoder", 2)):  # a decoder's layer attends to the encoder in between
        fed = {target: f"layer.{place}.DenseReluDense.{linear}" for target, linear in feed_forward.items()}
        stacks.append(Stack(f"{name}.block", {**fed, **of_attention}))
    return Family(tuple(stacks))


FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "olmo2": _LLAMA,
    "gpt2": _GPT2,  # DialoGPT too
    "gpt_neox": _GPT_NEOX,  # Pythia too
    "opt": _OPT,
    "roberta": _ROBERTA,  # as a decoder
    "t5": _t5(up="wi", down="wo"),
    "t5-gated": _t5(gate="wi_0", up="wi_1", down="wo"),  # T5 v1.1, Flan-T5
}


@dataclass(frozen=True, slots=True)
class Site:
    """One linear of one layer that can carry a LoRA. `transposed`: the weight is stored [in, out] (Conv1D).

    Layers are counted through all stacks: a decoder's come after the encoder's.
    """

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
    places = [
        (f"{stack.layers}.{place}", stack.linears)
        for stack in family_of(model).stacks
        for place in range(len(model.get_submodule(stack.layers)))  # type: ignore[arg-type]
    ]
    return tuple(
        _site(model, f"{path}.{linear}", layer, target)
        for layer, (path, linears) in enumerate(places)
        for target, linear in linears.items()
    )


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Every layer of a loaded model, an encoder's first, in the order in which sites count them."""
    return [
        layer
        for stack in family_of(model).stacks
        for layer in model.get_submodule(stack.layers)  # type: ignore[attr-defined]
    ]


def of_encoder_decoder(sites: Sequence[Site]) -> bool:
    """Whether these are the sites of a model with an encoder and a decoder."""
    return {site.name.partition(".")[0] for site in sites} == {"encoder", "decoder"}


def family_of(model: nn.Module) -> Family:
    """The site map of the model's family. `BaseModelError` where there is none, or where it cannot write a response."""
    config: Any = model.config
    kind = f"{config.model_type}-gated" if getattr(config, "is_gated_act", False) else str(config.model_type)
    if kind not in FAMILIES:
        raise BaseModelError(
            f"base.path: no site map for the family {kind!r}; mapped are {', '.join(sorted(FAMILIES))}. "
            f"This {type(model).__name__} has, for each layer N: {', '.join(_matrices(model))}. "
            "Next: take a model of a mapped family, or add an entry to FAMILIES in src/imprint/base/sites.py."
        )
    if kind == "roberta" and not config.is_decoder:
        raise BaseModelError(
            "base.path: a roberta model with is_decoder false sees the whole response while it writes it; "
            "allowed is is_decoder true. Next: load it with `load_pretrained`, which sets it."
        )
    return FAMILIES[kind]


def _matrices(model: nn.Module) -> list[str]:
    """Path and class of every module inside a layer that holds a matrix, once for all layers: what a map is made of."""
    kinds = {}
    for name, module in model.named_modules():
        weight: Any = getattr(module, "weight", None)
        if weight is not None and weight.dim() == 2 and re.search(r"\.\d+\.", name):
            kinds[re.sub(r"\b\d+\b", "N", name)] = type(module).__name__
    return [f"{path} ({kind})" for path, kind in kinds.items()]


def _site(model: nn.Module, name: str, layer: int, target: str) -> Site:
    from transformers.pytorch_utils import Conv1D

    module = model.get_submodule(name)
    transposed = isinstance(module, Conv1D)
    rows, columns = module.weight.shape  # type: ignore[union-attr, misc]
    width_in, width_out = (rows, columns) if transposed else (columns, rows)
    return Site(name, layer, target, int(width_in), int(width_out), transposed)
