"""A model run half by half against the same model run whole, row by row: values and gradients, on every path."""

from dataclasses import replace

import pytest
import torch
from families import Shape, config_of, model_of

from imprint.base.examples import Example
from imprint.base.fused import fused
from imprint.base.halves import in_halves
from imprint.base.packing import SHORT, pack
from imprint.base.trunk import Trunk

WINDOW = {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1}
LENGTHS = {"short": [[7, 3, 9], [2], [5, 5]], "long": [[SHORT + 9, 3], [20]]}


def built(family, dtype=torch.float32, **also):
    """A small model of the real class, far from uniform attention; biases, where it has them, are not zero."""
    config = config_of(family, 64, Shape(positions=2 * SHORT), loudness=0.3, **also)
    model = model_of(config, seed=3).to(dtype)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.uniform_(-0.5, 0.5)
    return model


def slots_of(lengths):
    """Rows of these lengths, the latter part of each a response."""
    draw = torch.Generator().manual_seed(5)
    ids = [[torch.randint(3, 64, (length,), generator=draw).tolist() for length in slot] for slot in lengths]
    return [[Example("u", "r", tuple(row), max(1, len(row) // 2), False) for row in slot] for slot in ids]


def whole(model, packed):
    """Hidden states at the labels, each row alone through the model, and the embeddings they came from."""
    ids = packed.ids.flatten()
    found, embedded = torch.zeros(len(ids), 16, dtype=model.dtype), model.get_input_embeddings()(ids).requires_grad_()
    for start, length in zip(packed.starts, packed.lengths, strict=True):
        span = slice(start, start + length)
        alone = model.base_model(inputs_embeds=embedded[None, span], use_cache=False)
        found = found.index_put((torch.arange(len(ids))[span],), alone.last_hidden_state[0])
    return found[packed.place], embedded


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "plain torch"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_halves_are_the_model(family, dtype, lengths):
    """Values and gradients, in compiled passes (fp32) and in plain torch (any other type), short and long rows."""
    model = built(family, dtype, **({"sliding_window": None} if family == "mistral" else {}))
    packed = pack(slots_of(LENGTHS[lengths]))
    expected, embedded = whole(model, packed)
    weigh = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    (wanted,) = torch.autograd.grad((expected * weigh).sum(), embedded)

    inputs = model.get_input_embeddings()(packed.ids).requires_grad_()
    with fused(model):
        got = Trunk(model).at_labels(packed, 0, inputs)
        (slope,) = torch.autograd.grad((got * weigh).sum(), inputs)

    assert in_halves(model)
    torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-5)
    assert wanted.norm() > 0
    torch.testing.assert_close(slope.flatten(0, 1), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["compiled", "plain torch"])
def test_what_stands_in_the_padding_changes_nothing(dtype):
    """Not one bit of a label's hidden state, nor of a real token's gradient; not even not-a-number does."""
    model = built("llama", dtype)
    packed = pack(slots_of(LENGTHS["short"]))
    real = torch.zeros(packed.ids.numel(), dtype=torch.bool)
    for start, length in zip(packed.starts, packed.lengths, strict=True):
        real[start : start + length] = True

    def run(fill):
        inputs = model.get_input_embeddings()(packed.ids).flatten(0, 1)
        inputs[~real] = fill
        inputs = inputs.view(*packed.ids.shape, -1).requires_grad_()
        hidden = Trunk(model).at_labels(replace(packed, _gathers=[]), 0, inputs)
        return hidden.detach(), torch.autograd.grad(hidden.square().sum(), inputs)[0].flatten(0, 1)[real]

    assert (~real).sum() > 10
    for clean, dirty in zip(run(0.5), run(float("nan")), strict=True):
        assert torch.equal(clean, dirty)
        assert clean.isfinite().all()


@pytest.mark.parametrize(("family", "also"), [("mistral", WINDOW), ("qwen2", WINDOW), ("qwen3", {}), ("olmo2", {})])
def test_a_layer_that_is_more_than_the_two_halves_is_run_whole(family, also):
    """A window, or norms of its own."""
    assert not in_halves(built(family, **also))
