"""A token more of each row through a whole layer of a narrow LLaMA-like model, compiled by numba.

    a few rows of one slot ──► norm ──► qkv ──► attend ──► o ──►(+)──► norm ──► gate, up ──► down ──►(+)──► the next few
                               └──────────── all of it in a core's own cache ────────────┘

One operation of PyTorch after the other, what lies between the products takes twice as long as they do (docs/log.md).
Here a token is a call a layer, without the interpreter's lock, so that lanes which write do not wait for each other's
Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from imprint.base import attention_kernels, kernels
from imprint.base.attention_kernels import attend_next, newer_than
from imprint.base.kernels import _exp, _kernel, f4, rms_norm

newer_than(Path(__file__), Path(kernels.__file__))
newer_than(Path(__file__), Path(attention_kernels.__file__))


@_kernel
def layer_next(
    x: Any,
    norms: Any,
    epsilons: Any,
    qkv: Any,
    bias: Any,
    o: Any,
    gate: Any,
    up: Any,
    down: Any,
    cos: Any,
    sin: Any,
    half: Any,
    scale: float,
    seen: Any,
    keys: Any,
    values: Any,
    tile: int,
) -> None:
    """In place: the residual stream of one token a row, `x` [slots, rows, width], as it is after the layer.

    Each linear is (weight [in, out], A [slots, in, rank], B [slots, rank, out]), a rank of 0 for none. `norms`
    [2, width] and `epsilons` are those before attention and before the feed-forward, `bias` [out] that of query, key
    and value. For the other arguments see `attend_next`. `tile` rows go through the layer together.
    """
    size, each = cos.shape[1], x.shape[1]
    for slot in range(len(x)):
        for row in range(0, each, tile):
            part = x[slot, row : row + tile]
            start, end = slot * each + row, slot * each + row + len(part)
            joined = _linear(_normed(part, norms[0], epsilons[0]), qkv, slot) + bias
            found = np.empty((len(part), len(o[0]) // size, size), np.float32)
            before = keys[start:end], values[start:end]
            turn = cos[start:end], sin[start:end]
            given = joined.reshape(len(part), -1, size)
            attend_next(given, turn[0], turn[1], half, scale, seen[start:end], before[0], before[1], found)
            part += _linear(found.reshape(len(part), -1), o, slot)
            normed = _normed(part, norms[1], epsilons[1])
            active, ups = _linear(normed, gate, slot), _linear(normed, up, slot)
            for t in range(len(active)):
                for i in range(active.shape[1]):
                    active[t, i] = active[t, i] / (f4(1) + _exp(-active[t, i])) * ups[t, i]
            part += _linear(active, down, slot)


@_kernel
def _linear(x: Any, linear: Any, slot: int) -> Any:
    weight, a, b = linear
    y = np.dot(x, weight)
    if b.shape[1]:
        y += np.dot(np.dot(x, a[slot]), b[slot])
    return y


@_kernel
def _normed(x: Any, weight: Any, epsilon: float) -> Any:
    y, scales = np.empty(x.shape, np.float32), np.empty(len(x), np.float32)
    rms_norm(x, x[:0], weight, epsilon, x, y, scales)
    return y
