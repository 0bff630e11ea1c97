"""What a CPU does between a step's matrix products, each in one pass over memory, compiled by numba.

PyTorch makes a pass for each small operation, and on a small base these passes cost more than the products. Every
function here has a twin in plain torch beside its caller, which holds for other devices and types; the tests hold one
against the other. Arrays are fp32, or bf16 (`array_of`), the last dimension contiguous; all is computed in fp32. The
interpreter's lock is released meanwhile, so that lanes (`memory.lanes`) do not wait for each other.

Importing this module loads numba: import it where a kernel is called. Compiled code is kept on disk beside this file,
or where NUMBA_CACHE_DIR says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

f4 = np.float32
ROUNDED_ONCE = {"nnan", "ninf", "nsz", "contract"}
"""Freedoms that change a number by a rounding: no sum may be reordered, or `_exp` would lose its digits.

What is no number need not stay one: a training that diverged is told by its weights.
"""


def array_of(tensor: Tensor) -> Any:
    """The tensor's own memory as a kernel takes it: NumPy has no bf16, so that comes as the bits it is."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _wide(x: Any) -> Any:
    """A number of an array, as fp32."""
    raise TypeError("kernels alone call this: numba puts the overload below in its place")


@overload(_wide, inline="always", strict=False)
def _wide_of(x: Any) -> Any:
    if x == types.uint16:
        return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(f4)
    return lambda x: x


def _like(number: Any, x: Any) -> Any:
    """fp32 `x` in the format of `number`: as it is, or rounded to bf16, a number half-way between two to the longer."""
    raise TypeError("kernels alone call this: numba puts the overload below in its place")


@overload(_like, inline="always", strict=False)
def _like_of(number: Any, x: Any) -> Any:
    if number == types.uint16:  # to the even of the two would take three more operations, a third of a kernel's time
        return lambda number, x: np.uint16((np.float32(x).view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16))
    return lambda number, x: x


def _kernel(function: Callable[..., Any]) -> Any:
    return njit(nogil=True, cache=True, error_model="numpy", fastmath=ROUNDED_ONCE)(function)


def _summing(function: Callable[..., Any]) -> Any:
    """A kernel whose sum the compiler may take in any order, one and the same for a processor and a length."""
    return njit(nogil=True, cache=True, error_model="numpy", fastmath=ROUNDED_ONCE | {"reassoc"})(function)


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
    """`active` [tokens, inner] = silu(gate) * up, of `h` [tokens, gate | up | anything]."""
    tokens, inner = active.shape
    for t in range(tokens):
        gates, ups, into = h[t, :inner], h[t, inner : 2 * inner], active[t]
        for i in range(inner):
            g = _wide(gates[i])
            into[i] = _like(into[i], g / (f4(1) + _exp(-g)) * _wide(ups[i]))


@_kernel
def gate_slopes(h: Any, grad: Any, active: Any, slopes: Any) -> None:
    """Of `grad` [tokens, inner | anything], the gradient of `active` [tokens, inner]: `slopes` [tokens, gate | up].

    `active` is made once more on the way.
    """
    tokens, inner = active.shape
    for t in range(tokens):
        gates, ups, towards = h[t, :inner], h[t, inner : 2 * inner], grad[t]
        again, of_gate, of_up = active[t], slopes[t, :inner], slopes[t, inner:]
        for i in range(inner):
            g, u, d = _wide(gates[i]), _wide(ups[i]), _wide(towards[i])
            sigmoid = f4(1) / (f4(1) + _exp(-g))
            silu = g * sigmoid
            again[i] = _like(again[i], silu * u)
            of_up[i] = _like(of_up[i], d * silu)
            of_gate[i] = _like(of_gate[i], d * u * sigmoid * (f4(1) + g * (f4(1) - sigmoid)))


@_kernel
def rms_norm(x: Any, more: Any, weight: Any, epsilon: float, total: Any, y: Any, scales: Any) -> None:
    """`y` = total * scale * weight, [tokens, width], of `total` = x + more, with scale = 1 / rms(total).

    Scales are kept, fp32 [tokens]. Where `more` is empty `total` is not written, and is `x`.
    """
    tokens, width = x.shape
    row = np.empty(width, np.float32)
    for t in range(tokens):
        into = y[t]
        if len(more):
            left, right, both = x[t], more[t], total[t]
            for i in range(width):
                both[i] = _like(both[i], _wide(left[i]) + _wide(right[i]))
                row[i] = _wide(both[i])
        else:
            for i in range(width):
                row[i] = _wide(x[t, i])
        scale = f4(1) / np.sqrt(_dot(row, row) / f4(width) + f4(epsilon))
        scales[t] = scale
        for i in range(width):
            into[i] = _like(into[i], row[i] * scale * _wide(weight[i]))


@_kernel
def rms_norm_slope(grad: Any, beside: Any, x: Any, weight: Any, scales: Any, slope: Any, again: Any) -> None:
    """The gradient of `x`: beside + scale * (g - x̂ · mean(g x̂)), with g = grad * weight and x̂ = x * scale.

    `beside` is what reaches `x` past the norm, or empty; `again` is the slope in another format, or empty.
    """
    tokens, width = x.shape
    inner, row = np.empty(width, np.float32), np.empty(width, np.float32)
    for t in range(tokens):
        into, scale = slope[t], scales[t]
        for i in range(width):
            inner[i] = _wide(grad[t, i]) * _wide(weight[i])
            row[i] = _wide(x[t, i])
        along = _dot(inner, row) * scale * scale / f4(width)
        if len(beside):
            past = beside[t]
            for i in range(width):
                row[i] = scale * (inner[i] - row[i] * along) + _wide(past[i])
        else:
            for i in range(width):
                row[i] = scale * (inner[i] - row[i] * along)
        for i in range(width):
            into[i] = _like(into[i], row[i])
        if len(again):
            other = again[t]
            for i in range(width):
                other[i] = _like(other[i], row[i])


@_kernel
def nats(logits: Any, labels: Any, losses: Any) -> None:
    """`losses` [rows] = -log softmax(logits)[label]; in place, `logits` [rows, words] become the loss's gradient."""
    rows, words = logits.shape
    row = np.empty(words, np.float32)
    for r in range(rows):
        into = logits[r]
        for i in range(words):
            row[i] = _wide(into[i])
        largest = _largest(row)
        right = row[labels[r]] - largest
        for i in range(words):
            row[i] = _exp(row[i] - largest)
        total = _sum(row)
        losses[r] = np.log(total) - right
        share = f4(1) / total
        row[labels[r]] -= total
        for i in range(words):
            into[i] = _like(into[i], row[i] * share)


@_summing
def _dot(a: Any, b: Any) -> Any:
    total = f4(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_kernel
def _largest(a: Any) -> Any:
    """Of fp32 numbers; by their bits, ordered as numbers are, because compilers compare floats one after the other."""
    found, all_but_sign = np.int32(-(2**31)), np.int32(2**31 - 1)
    for i in range(len(a)):
        bits = np.float32(a[i]).view(np.int32)
        found = np.int32(max(found, np.int32(bits ^ ((bits >> np.int32(31)) & all_but_sign))))
    return np.int32(found ^ ((found >> np.int32(31)) & all_but_sign)).view(f4)


@_summing
def _sum(a: Any) -> Any:
    total = f4(0)
    for i in range(len(a)):
        total += a[i]
    return total


@_kernel
def to_rows(tokens: Any, starts: Any, lengths: Any, firsts: Any, cos: Any, sin: Any, half: Any, rows: Any) -> None:
    """`tokens` [tokens, heads, size] into `rows` [heads, rows, width, size], turned.

    Row r is `lengths[r]` tokens from `starts[r]` on, then zeros; `firsts[r]` is the position of its first token. For
    the other arguments see `take`.
    """
    heads, count, _, _ = rows.shape
    for row in range(count):
        for head in range(heads):
            take(tokens, head, starts[row], lengths[row], firsts[row], cos, sin, half, rows[head, row])
            rows[head, row, lengths[row] :] = 0


@_kernel
def from_rows(rows: Any, starts: Any, lengths: Any, firsts: Any, cos: Any, sin: Any, half: Any, tokens: Any) -> None:
    """The way back of `to_rows`, turned by the transposed rotation; places of no row are left as they are."""
    heads, count, _, _ = rows.shape
    for row in range(count):
        for head in range(heads):
            give(rows[head, row], starts[row], lengths[row], firsts[row], cos, sin, half, tokens, head)


@_kernel
def take(tokens: Any, head: int, start: int, count: int, first: int, cos: Any, sin: Any, half: Any, into: Any) -> None:
    """One head of `count` tokens [tokens, heads, size] from `start` on into the first places of `into` [·, size].

    `cos` and `sin` [positions, size] turn by position, `first` and those after it: a pair (x, y) of a head's halves
    becomes (x c - y s, y c' + x s'). Empty ones leave the head as it is. `half` is `half_of(size)`.
    """
    width = len(half)
    if len(cos):
        for t in range(count):
            x, c, s, y = tokens[start + t, head], cos[first + t], sin[first + t], into[t]
            for i in range(width):
                left, right = _wide(x[i]), _wide(x[width + i])
                y[i] = _like(y[i], left * _wide(c[i]) - right * _wide(s[i]))
                y[width + i] = _like(y[i], right * _wide(c[width + i]) + left * _wide(s[width + i]))
    else:
        for t in range(count):
            x, y = tokens[start + t, head], into[t]
            for i in range(2 * width):
                y[i] = _like(y[i], _wide(x[i]))


@_kernel
def give(row: Any, start: int, count: int, first: int, cos: Any, sin: Any, half: Any, tokens: Any, head: int) -> None:
    """The way back of `take`, turned by the transposed rotation: `row` [·, size] to one head of `tokens`."""
    width = len(half)
    if len(cos):
        for t in range(count):
            x, c, s, y = row[t], cos[first + t], sin[first + t], tokens[start + t, head]
            for i in range(width):
                left, right = _wide(x[i]), _wide(x[width + i])
                y[i] = _like(y[i], left * _wide(c[i]) + right * _wide(s[width + i]))
                y[width + i] = _like(y[i], right * _wide(c[width + i]) - left * _wide(s[i]))
    else:
        for t in range(count):
            x, y = row[t], tokens[start + t, head]
            for i in range(2 * width):
                y[i] = _like(y[i], _wide(x[i]))


def half_of(size: int) -> tuple[int, ...]:
    """Half the size of a head, as the length of a tuple: that a compiler knows, and loops over a head are short."""
    return (0,) * (size // 2)
