"""AdamW by row against torch.optim.AdamW and clip_grad_norm_ on each row alone."""

import pytest
import torch

from imprint.memory.optimiser import adamw_rows, bias_corrections, clip_rows

ROWS, SIZE, STEPS, CLIP = 5, 23, 20, 1.0
SIZES = torch.tensor([1e-6, 1e-2, 0.15, 1.0, 80.0])[:, None]
"""Sizes of the gradients of each row: from far below the clip norm to far above it."""
BEGINS = [0, 0, 3, 9, 15]
"""The step of the fleet at which each row begins with step 1 of its own."""


def peak(row, step):
    """Another learning rate for each row and step."""
    return (row + 1) * 3e-3 * (1 - step / (STEPS + 1))


def alone(row, start, gradients, weight_decay):
    """What torch makes of one row."""
    weight = start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([weight], lr=1.0, weight_decay=weight_decay)
    for step in range(BEGINS[row], STEPS):
        weight.grad = gradients[step].clone()
        torch.nn.utils.clip_grad_norm_([weight], CLIP)
        optimiser.param_groups[0]["lr"] = peak(row, step)
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_every_row_gets_what_adamw_gives_it_alone(weight_decay):
    """Twenty steps; rates, step counts and sizes of gradients differ by row; a new row's moments begin at zero."""
    draw = torch.Generator().manual_seed(1)
    start = torch.randn(ROWS, SIZE, generator=draw)
    gradients = torch.randn(STEPS, ROWS, SIZE, generator=draw) * SIZES
    gradients[:, :, 0] = 0  # a weight without a gradient, as padding is
    state = torch.stack([start, torch.zeros_like(start), torch.zeros_like(start)])
    seen = state.data_ptr()

    for step in range(STEPS):
        for row, begin in enumerate(BEGINS):
            if begin == step:  # another user takes the slot
                state[0, row], state[1:, row] = start[row], 0
        grad = gradients[step].clone()
        clip_rows(grad, CLIP)
        rates = torch.tensor([[peak(row, step)] for row in range(ROWS)])
        pairs = [bias_corrections(max(1, step - begin + 1)) for begin in BEGINS]
        corrections = tuple(torch.tensor([[pair[which]] for pair in pairs]) for which in (0, 1))
        adamw_rows(state, grad, rates, corrections, weight_decay)

    assert state.data_ptr() == seen
    for row in range(ROWS):
        wanted = alone(row, start[row], gradients[:, row], weight_decay)
        torch.testing.assert_close(state[0, row] - start[row], wanted - start[row], rtol=1e-4, atol=2e-6)
        assert (wanted[1:] - start[row, 1:]).abs().min() > 1e-5  # every weight but the padding moved
        if not weight_decay:
            assert state[0, row, 0] == start[row, 0]


def test_clipping_is_a_rows_own():
    """A small row stays bit for bit what it was beside a huge one; a row of zeros stays zeros."""
    grad = torch.stack([torch.full((4,), 0.1), torch.full((4,), 1e6), torch.zeros(4)])
    clip_rows(grad, 1.0)

    assert torch.equal(grad[0], torch.full((4,), 0.1))
    assert grad[1].norm().item() == pytest.approx(1.0, rel=1e-5)
    assert torch.equal(grad[2], torch.zeros(4))


def test_clipping_equals_clip_grad_norm():
    draw = torch.Generator().manual_seed(2)
    for norm in (0.5, 3.0):
        grad = torch.randn(6, 11, generator=draw)
        wanted = []
        for row in grad:
            weight = torch.zeros(11, requires_grad=True)
            weight.grad = row.clone()
            torch.nn.utils.clip_grad_norm_([weight], norm)
            wanted.append(weight.grad)
        clip_rows(grad, norm)
        torch.testing.assert_close(grad, torch.stack(wanted), rtol=1e-6, atol=0)


def test_bias_corrections_are_exact_at_the_first_step():
    first, second = bias_corrections(1)
    assert first == pytest.approx(0.1, rel=1e-12)
    assert second**2 == pytest.approx(0.001, rel=1e-12)
