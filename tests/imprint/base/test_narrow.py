"""A compiled step of writing: what the same model reads one operation after the other, and which models it is for."""

import pytest
import torch
from torch import nn
from toys import base_of, in_use, tiny_model

from imprint.base import token_by_token
from imprint.base.continuation import continued
from imprint.base.narrow import ROWS, is_narrow, narrow
from imprint.memory.stack import stacked

STEPS = 5


def layers_of(base):
    return base.model.get_submodule(base.model.base_model_prefix).layers


def factors(base, slots, ranks, drawn=0):
    """Of every site with a rank above 0, drawn."""
    draw = torch.Generator().manual_seed(drawn)
    found = {}
    for site, rank in zip(base.sites, ranks, strict=True):
        linear = base.model.get_submodule(site.name)
        if rank:
            a = torch.randn(slots, linear.in_features, rank, generator=draw) * 0.3
            found[site.name] = a, torch.randn(slots, rank, linear.out_features, generator=draw) * 0.3
    return found


def hidden_after_each(base, prompts, carried, monkeypatch, compiled):
    """Hidden states after the prompts and some tokens more, and in how many steps the compiled pass was taken."""
    taken, real = [], token_by_token.TokenByToken._read_next
    with monkeypatch.context() as patched, torch.no_grad(), stacked(base, carried):
        patched.setattr(token_by_token.TokenByToken, "_read_next", lambda *given: taken.append(1) or real(*given))
        if not compiled:
            patched.setattr(token_by_token, "narrow", lambda layers: None)
        text = continued(base.model, prompts, 0, STEPS)
        found = [text.step(None)]
        for step in range(STEPS):
            found.append(text.step(torch.arange(len(prompts)) % 7 + step))
            text.end(torch.arange(len(prompts)) % 5 == step)
    return torch.stack(found), len(taken)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("each", [1, 3, ROWS[1] + 1])
@pytest.mark.parametrize("where", ["nowhere", "feed-forward", "everywhere"])
def test_a_compiled_step_reads_what_operations_read_one_after_the_other(family, each, where, tokenizer, monkeypatch):
    """Heads that share keys, a bias before attention, ranks that differ by site, and more rows than go at once."""
    base = in_use(tiny_model(family, tokenizer), tokenizer)
    for layer in layers_of(base):  # those of a new model are zeros and ones, which would prove nothing
        nn.init.uniform_(layer.input_layernorm.weight, 0.5, 2)
        nn.init.uniform_(layer.post_attention_layernorm.weight, 0.5, 2)
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            if linear.bias is not None:
                nn.init.normal_(linear.bias)
    of_mlp = ["mlp" in site.name for site in base.sites]
    ranks = {
        "nowhere": [0] * len(of_mlp),
        "feed-forward": [1 + place % 4 if inside else 0 for place, inside in enumerate(of_mlp)],
        "everywhere": [place % 4 for place in range(len(of_mlp))],
    }[where]
    slots = 1 if where == "nowhere" else 3
    prompts = [tuple(range(3, 5 + row % 6)) for row in range(slots * each)]
    carried = factors(base, slots, ranks)

    found, steps = hidden_after_each(base, prompts, carried, monkeypatch, compiled=True)
    expected, others = hidden_after_each(base, prompts, carried, monkeypatch, compiled=False)

    assert (steps, others) == (STEPS, 0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_models_it_is_not_for(tokenizer):
    def of(change):
        base = in_use(tiny_model("llama", tokenizer), tokenizer)
        change(layers_of(base))
        return layers_of(base)

    class Another(nn.Linear):
        pass

    def put(layers, name, linear):
        setattr(layers[-1].mlp, name, linear)

    assert is_narrow(of(lambda layers: None))
    linear = of(lambda layers: None)[-1].mlp.up_proj
    shape = linear.in_features, linear.out_features
    for change in (
        lambda layers: put(layers, "up_proj", Another(*shape, bias=False)),
        lambda layers: put(layers, "up_proj", nn.Linear(*shape)),
        lambda layers: put(layers, "up_proj", nn.Linear(*shape, bias=False).bfloat16()),
        lambda layers: put(layers, "up_proj", nn.Linear(shape[0], 2**16 // shape[0], bias=False)),
        lambda layers: setattr(layers[-1].mlp, "act_fn", nn.ReLU()),
        lambda layers: layers[0].mlp.register_forward_hook(lambda *given: None),
    ):
        assert narrow(of(change)) is None


def test_factors_that_would_have_two_threads_are_not_for_it(tokenizer):
    """Several episodes of a high rank are wider than the weight that they stand beside."""
    base = base_of("llama", tokenizer)
    for rank, fits in ((8, True), (2000, False)):
        with stacked(base, factors(base, 1, [rank] * len(base.sites))):
            assert is_narrow(layers_of(base)) == fits
