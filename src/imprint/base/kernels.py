"""What a CPU does between a step's matrix products, each in one pass over memory, compiled by numba.

PyTorch makes a pass for each small operation, and on a small base these passes cost more than the products. Every
function here has a twin in plain torch beside its caller, which holds for other devices and types; the tests hold one
against the other. All arrays are fp32, the last dimension contiguous. The interpreter's lock is released meanwhile, so
that lanes (`memory.fleet`) do not wait for each other.

Importing this module loads numba: import it where a kernel is called. Compiled code is kept on disk beside this file,
or where NUMBA_CACHE_DIR says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

f4 = np.float32
ROUNDED_ONCE = {"nnan", "ninf", "nsz", "contract"}
"""Freedoms that change a number by a rounding: no sum may be reordered, or `_exp` would lose its digits.

What is no number need not stay one: a training that diverged is told by its weights.
"""


def _kernel(function: Callable[..., Any]) -> Any:
    return njit(nogil=True, cache=True, error_model="numpy", fastmath=ROUNDED_ONCE)(function)


@njit(nogil=True, cache=True, error_model="numpy", fastmath=ROUNDED_ONCE, inline="always")
def _exp(x: Any) -> Any:
    """eˣ to about one unit in the last place (Cephes' polynomial), in a form that compilers vectorise."""
    x = min(max(x, f4(-87.0)), f4(88.0))
    whole = np.floor(x * f4(1.4426950408889634) + f4(0.5))
    rest = x - whole * f4(0.693359375) + whole * f4(2.12194440e-4)
    p = f4(1.9875691500e-4)
    p = p * rest + f4(1.3981999507e-3)
    p = p * rest + f4(8.3334519073e-3)
    p = p * rest + f4(4.1665795894e-2)
    p = p * rest + f4(1.6666665459e-1)
    p = p * rest + f4(5.0000001201e-1)
    p = p * rest * rest + rest + f4(1.0)
    return p * np.int32((np.int32(whole) + 127) << 23).view(f4)


@_kernel
def gate(h: Any, active: Any) -> None:
    """`active` [tokens, inner] = silu(gate) * up, of `h` [tokens, gate | up]."""
    tokens, inner = active.shape
    for t in range(tokens):
        gates, ups, into = h[t, :inner], h[t, inner:], active[t]
        for i in range(inner):
            into[i] = gates[i] / (f4(1) + _exp(-gates[i])) * ups[i]


@_kernel
def gate_slopes(h: Any, grad: Any, active: Any, slopes: Any) -> None:
    """Of `grad` [tokens, inner], the gradient of `active`: `slopes` [tokens, gate | up], and `active` once more."""
    tokens, inner = grad.shape
    for t in range(tokens):
        gates, ups, towards = h[t, :inner], h[t, inner:], grad[t]
        again, of_gate, of_up = active[t], slopes[t, :inner], slopes[t, inner:]
        for i in range(inner):
            g, u, d = gates[i], ups[i], towards[i]
            sigmoid = f4(1) / (f4(1) + _exp(-g))
            silu = g * sigmoid
            again[i] = silu * u
            of_up[i] = d * silu
            of_gate[i] = d * u * sigmoid * (f4(1) + g * (f4(1) - sigmoid))


@_kernel
def rms_norm(x: Any, weight: Any, epsilon: float, y: Any, scales: Any) -> None:
    """`y` = x * scale * weight, [tokens, width], with scale = 1 / rms(x), kept in `scales` [tokens]."""
    tokens, width = x.shape
    parts = np.zeros(16, np.float32)
    for t in range(tokens):
        scale = f4(1) / np.sqrt(_dot(x[t], x[t], parts) / f4(width) + f4(epsilon))
        scales[t] = scale
        row, into = x[t], y[t]
        for i in range(width):
            into[i] = row[i] * scale * weight[i]


@_kernel
def rms_norm_slope(grad: Any, x: Any, weight: Any, scales: Any, slope: Any) -> None:
    """The gradient of `x`: scale * (g - x̂ · mean(g x̂)), with g = grad * weight and x̂ = x * scale."""
    tokens, width = x.shape
    parts, inner = np.zeros(16, np.float32), np.empty(width, np.float32)
    for t in range(tokens):
        towards, row, into, scale = grad[t], x[t], slope[t], scales[t]
        for i in range(width):
            inner[i] = towards[i] * weight[i]
        along = _dot(inner, row, parts) * scale * scale / f4(width)
        for i in range(width):
            into[i] = scale * (inner[i] - row[i] * along)


@_kernel
def _dot(a: Any, b: Any, parts: Any) -> Any:
    """Sixteen sums side by side: vectors of the processor, in an order that never changes."""
    size = len(a)
    blocks = size // 16
    for lane in range(16):
        parts[lane] = 0
    for block in range(blocks):
        for lane in range(16):
            parts[lane] += a[16 * block + lane] * b[16 * block + lane]
    total = f4(0)
    for lane in range(16):
        total += parts[lane]
    for i in range(16 * blocks, size):
        total += a[i] * b[i]
    return total


@_kernel
def causal_shares(scores: Any, scale: float) -> None:
    """In place: `scores` [rows, width, width] become softmax(scale * scores) over a place and those before it."""
    count, width, _ = scores.shape
    factor, parts, ones = f4(scale), np.zeros(16, np.float32), np.ones(width, np.float32)
    for one in range(count):
        for t in range(width):
            row = scores[one, t, : t + 1]
            largest = row[0]
            for i in range(t + 1):
                largest = max(largest, row[i])
            for i in range(t + 1):
                row[i] = _exp((row[i] - largest) * factor)
            share = f4(1) / _dot(row, ones[: t + 1], parts)
            for i in range(t + 1):
                row[i] *= share
            scores[one, t, t + 1 :] = 0


@_kernel
def causal_slopes(shares: Any, grads: Any, scale: float) -> None:
    """In place: `grads` [rows, width, width], of what `causal_shares` answered, become those of its scores."""
    count, width, _ = grads.shape
    factor, parts = f4(scale), np.zeros(16, np.float32)
    for one in range(count):
        for t in range(width):
            share, row = shares[one, t, : t + 1], grads[one, t, : t + 1]
            along = _dot(share, row, parts)
            for i in range(t + 1):
                row[i] = share[i] * (row[i] - along) * factor
            grads[one, t, t + 1 :] = 0


@_kernel
def to_rows(tokens: Any, starts: Any, lengths: Any, cos: Any, sin: Any, rows: Any) -> None:
    """`tokens` [tokens, heads, size] into `rows` [heads, rows, width, size], turned.

    Row r is `lengths[r]` tokens from `starts[r]` on, then zeros. `cos` and `sin` [width, size] turn by position; empty
    ones leave the heads as they are.
    """
    heads, count, _, size = rows.shape
    half = size // 2
    turned = len(cos) > 0
    for row in range(count):
        for t in range(lengths[row]):  # a token's heads lie together: they are read in one go
            for head in range(heads):
                x, into = tokens[starts[row] + t, head], rows[head, row, t]
                if turned:
                    c, s = cos[t], sin[t]
                    for i in range(half):
                        into[i] = x[i] * c[i] - x[half + i] * s[i]
                    for i in range(half):
                        into[half + i] = x[half + i] * c[half + i] + x[i] * s[half + i]
                else:
                    for i in range(size):
                        into[i] = x[i]
        for head in range(heads):
            rows[head, row, lengths[row] :] = 0


@_kernel
def from_rows(rows: Any, starts: Any, lengths: Any, cos: Any, sin: Any, tokens: Any) -> None:
    """The way back of `to_rows`, turned by the transposed rotation; places of no row are left as they are."""
    heads, count, _, size = rows.shape
    half = size // 2
    turned = len(cos) > 0
    for row in range(count):
        for t in range(lengths[row]):
            for head in range(heads):
                x, into = rows[head, row, t], tokens[starts[row] + t, head]
                if turned:
                    c, s = cos[t], sin[t]
                    for i in range(half):
                        into[i] = x[i] * c[i] + x[half + i] * s[half + i]
                    for i in range(half):
                        into[half + i] = x[half + i] * c[half + i] - x[i] * s[i]
                else:
                    for i in range(size):
                        into[i] = x[i]
