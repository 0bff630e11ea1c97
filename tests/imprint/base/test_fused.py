"""The fused operations against plain PyTorch: value and gradient, and a model that is the same afterwards."""

import ctypes
import platform
import subprocess
import sys

import pytest
import torch
from families import CAUSAL, config_of, model_of
from torch import nn
from torch.nn.functional import cross_entropy

from imprint.base.fused import IN_ONE_PRODUCT, fused, nats_per_label, normed_sum, product

EXACT, ROUNDED = {"rtol": 1e-4, "atol": 1e-5}, {"rtol": 2**-7, "atol": 1e-5}
WITH_LAYER_NORM = ("gpt2", "gpt_neox", "opt", "roberta")


@pytest.fixture(params=CAUSAL)
def model(request):
    """A small frozen model of the real class, its norms' weights away from one."""
    model = model_of(config_of(request.param, 64, loudness=0.2), seed=2)
    for name, weight in model.named_parameters():
        if "norm" in name and "bias" not in name:
            weight.copy_(0.5 + torch.rand(weight.shape))
    return model


def answer(model, given):
    """Hidden states for these input vectors, and the gradient of a weighted sum of them in the vectors."""
    leaf = given.clone().requires_grad_()
    hidden = model.base_model(inputs_embeds=leaf, use_cache=False).last_hidden_state
    weights = torch.linspace(-1, 1, hidden.numel()).view(hidden.shape)
    return hidden.detach(), torch.autograd.grad((hidden * weights).sum(), leaf)[0]


def state_of(model):
    """All that the block may touch: what each module carries of its own, and its weights."""
    return (
        {name: (id(module), sorted(vars(module))) for name, module in model.named_modules()},
        {name: weight.clone() for name, weight in model.named_parameters()},
    )


def assert_same_state(before, after):
    assert before[0] == after[0]
    assert all(torch.equal(weight, after[1][name]) for name, weight in before[1].items())


def norms_of(model):
    return [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]


def test_a_whole_fused_model_equals_the_plain_one(model):
    given = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(4))
    plain = answer(model, given)
    with fused(model):
        ours = answer(model, given)

    torch.testing.assert_close(ours[0], plain[0], rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(ours[1], plain[1], rtol=1e-4, atol=1e-5 * float(plain[1].abs().max()))


@pytest.mark.parametrize("size", [1e-4, 1.0, 300.0], ids=["tiny", "usual", "large"])
def test_a_fused_norm_equals_the_models_own(model, size):
    """Value and gradient, also where epsilon decides, and for a leading shape of two dimensions or three."""
    for norm in norms_of(model):
        for shape in ((5, len(norm.weight)), (2, 3, len(norm.weight))):
            x = (torch.randn(shape, generator=torch.Generator().manual_seed(6)) * size).requires_grad_()
            weights = torch.randn(shape, generator=torch.Generator().manual_seed(7))
            plain = norm(x)
            (wanted,) = torch.autograd.grad((plain * weights).sum(), x)
            with fused(model):
                ours = norm(x)
                (got,) = torch.autograd.grad((ours * weights).sum(), x)
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain torch"])
@pytest.mark.parametrize("format_of_more", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted_past_it", [True, False])
def test_a_sum_and_its_norm_in_one_pass(compiled, format_of_more, wanted_past_it, monkeypatch):
    """Both values, and the gradients of both summands, each in its own format; the sum may be wanted besides."""
    monkeypatch.setattr("imprint.base.fused.kernels_hold", lambda _: compiled)
    norm = nn.RMSNorm(16)
    norm.variance_epsilon = 1e-5  # what Hugging Face's have
    norm.weight.data, norm.weight.requires_grad = 0.5 + torch.rand(16), False
    draw = torch.Generator().manual_seed(3)
    x, more = torch.randn(2, 5, 16, generator=draw), torch.randn(2, 5, 16, generator=draw).to(format_of_more)
    past, towards = torch.randn(2, 5, 16, generator=draw), torch.randn(2, 5, 16, generator=draw)

    def answers(x, more, how):
        leaves = x.clone().requires_grad_(), more.clone().requires_grad_()
        total, normed = how(*leaves)
        value = (normed * towards.to(x.dtype)).sum() + wanted_past_it * (total * past.to(x.dtype)).sum()
        return total.detach(), normed.detach(), *torch.autograd.grad(value, leaves)

    def plainly(x, more):
        total = x + more
        return total, total * (total.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * norm.weight.double()

    with fused(norm):
        ours = answers(x, more, lambda *leaves: normed_sum(norm, *leaves))
    theirs = answers(x.double(), more.double(), plainly)

    assert [one.dtype for one in ours] == [torch.float32, torch.float32, torch.float32, format_of_more]
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got.double(), wanted, **(ROUNDED if got.dtype == torch.bfloat16 else EXACT))


def test_a_norm_that_somebody_listens_to_is_called(model):
    """A hook on it is somebody who waits to be called."""
    heard = []
    for norm in norms_of(model):
        handle = norm.register_forward_hook(lambda *_: heard.append(1))
        with fused(model):
            total, _ = normed_sum(norm, torch.ones(3, len(norm.weight)), torch.ones(3, len(norm.weight)))
        handle.remove()
        assert total.eq(2).all()
    assert len(heard) == len(norms_of(model))


def test_the_block_is_no_empty_promise(model):
    """RMS norms run another forward inside; LayerNorm models are left alone."""
    with fused(model):
        assert all("forward" in vars(norm) for norm in norms_of(model))
        assert bool(norms_of(model)) == (model.config.model_type not in WITH_LAYER_NORM)
        if not norms_of(model):
            assert not any("forward" in vars(module) for module in model.modules())


def test_the_model_is_as_it_was_after_the_block_and_after_an_exception(model):
    given = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(5))
    before, plain = state_of(model), answer(model, given)

    with fused(model):
        answer(model, given)
    assert_same_state(before, state_of(model))
    with pytest.raises(RuntimeError, match="inside"), fused(model):
        raise RuntimeError("inside")
    assert_same_state(before, state_of(model))

    assert all(torch.equal(one, other) for one, other in zip(answer(model, given), plain, strict=True))


def test_a_block_within_a_block_ends_alone(model):
    """The outer one still holds; a forward that a module had of its own is its own again."""
    before, kind = state_of(model), type(norms_of(model)[0]) if norms_of(model) else None
    with fused(model):
        outer = {name: vars(module).get("forward") for name, module in model.named_modules()}
        with fused(model):
            pass
        assert {name: vars(module).get("forward") for name, module in model.named_modules()} == outer
    assert_same_state(before, state_of(model))
    if kind is not None:
        norm = norms_of(model)[0]
        own = norm.forward = lambda x: kind.forward(norm, x)
        with fused(model):
            assert vars(norm)["forward"] is not own
        assert vars(norm)["forward"] is own


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [1.0, 40.0], ids=["usual", "sure"])
@pytest.mark.parametrize("rows", [9, 128, 300], ids=["few", "a block", "several blocks"])
def test_nats_per_label_equal_cross_entropy(bias, size, rows):
    """Value and gradient under unequal weights, also where the model is very sure of itself."""
    torch.manual_seed(8)
    head = nn.Linear(12, 30, bias=bias).requires_grad_(False)
    hidden = (torch.randn(rows, 12) * size).requires_grad_()
    label, share = torch.randint(0, 30, (rows,)), torch.rand(rows)
    plain = cross_entropy(head(hidden), label, reduction="none")
    (wanted,) = torch.autograd.grad((plain * share).sum(), hidden)

    ours = nats_per_label(hidden, head, label)
    (got,) = torch.autograd.grad((ours * share).sum(), hidden)

    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(nats_per_label(hidden, head, label), ours)


def test_a_head_that_is_trained_gets_its_gradient():
    torch.manual_seed(8)
    head, label = nn.Linear(12, 30, bias=False), torch.randint(0, 30, (9,))
    for hidden in (torch.randn(9, 12), torch.randn(9, 12).requires_grad_()):
        (wanted,) = torch.autograd.grad(cross_entropy(head(hidden), label), head.weight)
        (got,) = torch.autograd.grad(nats_per_label(hidden, head, label).mean(), head.weight)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_nats_of_a_half_precision_model_are_summed_in_full():
    torch.manual_seed(9)
    head = nn.Linear(12, 30, bias=False).requires_grad_(False).bfloat16()
    hidden, label = torch.randn(9, 12).bfloat16().requires_grad_(), torch.randint(0, 30, (9,))
    plain = cross_entropy(head(hidden).float(), label, reduction="none")
    (wanted,) = torch.autograd.grad(plain.sum(), hidden)

    ours = nats_per_label(hidden, head, label)
    (got,) = torch.autograd.grad(ours.sum(), hidden)

    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, wanted, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("tokens", [IN_ONE_PRODUCT, IN_ONE_PRODUCT + 1, 2 * IN_ONE_PRODUCT + 300])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_product_in_parts_is_the_product(tokens, with_bias):
    """Value and gradient, of tokens in slots as of tokens in a row."""
    draw = torch.Generator().manual_seed(3)
    weight, bias = (torch.randn(*shape, generator=draw).bfloat16() for shape in ((24, 16), (24,)))
    x = torch.randn(1, tokens, 16, generator=draw).bfloat16().requires_grad_()
    slope = torch.randn(1, tokens, 24, generator=draw).bfloat16()
    found = []
    for of in (product, nn.functional.linear):
        y = of(x, weight, bias if with_bias else None)
        found.append((y.detach(), *torch.autograd.grad(y, x, slope)))

    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=2**-7, atol=2**-7)
    assert torch.equal(product(x[0], weight, None), product(x, weight, None)[0])


TWENTY_SIZES = """
import ctypes

import torch

from imprint.base.fused import product


class Heap(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks in_use free keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]


def in_use():
    asked = ctypes.CDLL("libc.so.6").mallinfo2
    asked.restype = Heap
    return asked().in_use


weight = torch.ones(96, 64).bfloat16()
product(torch.ones(2048 + 64, 64).bfloat16(), weight, None)
before = in_use()
for thousands in range(3, 23):
    product(torch.ones(1024 * thousands + 64, 64).bfloat16(), weight, None)
print(in_use() - before)
"""


def glibc_says_what_is_in_use():
    return platform.libc_ver()[0] == "glibc" and hasattr(ctypes.CDLL("libc.so.6"), "mallinfo2")


@pytest.mark.skipif(not glibc_says_what_is_in_use(), reason="asks glibc (2.33) what is in use")
def test_batches_of_many_sizes_leave_next_to_nothing_behind():
    """Where products in bf16 are compiled, each size of them keeps half a MiB."""
    command = [sys.executable, "-c", TWENTY_SIZES]
    left = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert left < 2**21
