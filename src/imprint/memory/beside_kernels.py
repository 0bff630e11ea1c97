"""Weights with each slot's update added and its factors beside them, in one pass, compiled by numba.

PyTorch makes a tensor of zeros, copies the weights, adds a batched product through a rank of eight, copies the factors
and rounds: five passes over what is made here a few rows at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from imprint.base import kernels
from imprint.base.attention_kernels import newer_than
from imprint.base.kernels import _kernel, _like, _wide

newer_than(Path(__file__), Path(kernels.__file__))


@_kernel
def put_beside(weight: Any, a: Any, b: Any, joined: Any, first: int, last: int, column: int, tile: int) -> None:
    """Into zeros, `joined` [slots, ·, ·], put `weight` [out, width] + (A B)ᵀ from row `first` on, and its factors.

    A is [slots, width, rank], B [slots, rank, out]. Bᵀ stands beside the sum, from `column` after its width on, and Aᵀ
    below all sums, from `column` after row `last` on. So many rows as a `tile` are summed together.
    """
    (out, width), rank = weight.shape, b.shape[1]
    across, through = np.empty((rank, width), np.float32), np.empty((out, rank), np.float32)
    sums = np.zeros((tile, width), np.float32)
    for slot in range(len(joined)):
        for r in range(rank):
            row = joined[slot, last + column + r]
            for i in range(width):
                across[r, i] = _wide(a[slot, i, r])
                row[i] = _like(row[i], across[r, i])
            for o in range(out):
                through[o, r] = _wide(b[slot, r, o])
        for start in range(0, out, tile):
            part = through[start : start + tile]
            if rank:
                np.dot(part, across, sums[: len(part)])
            for o in range(len(part)):
                row, total, frozen = joined[slot, first + start + o], sums[o], weight[start + o]
                for i in range(width):
                    row[i] = _like(row[i], total[i] + _wide(frozen[i]))
                beside = row[width + column :]
                for r in range(rank):
                    beside[r] = _like(beside[r], part[o, r])
