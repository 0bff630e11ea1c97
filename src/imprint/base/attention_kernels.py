"""Causal attention of packed rows, one after the other, forward and back, compiled by numba.

    a row's query, key, value ──► turned by position, fp32 ──► scale q kᵀ ──► softmax ──► times v ──► to its places
                                 └─ a head at a time, a tile of asking tokens at a time: in a core's own cache ─┘

The products of a row are small. PyTorch's batched product of rows padded to one width reached 15 to 60 GFLOP/s on them;
SciPy's BLAS, called from compiled code, reaches 60 to 100 (docs/log.md), no row is padded to another's length, and no
tile is multiplied with keys that come after its last token. The tokens of a row are read again on the way back; the
shares of the softmax are kept, in the order in which they are made.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from imprint.base import kernels
from imprint.base.kernels import _dot, _exp, _kernel, _largest, _sum, f4, give, take


def newer_than(mine: Path, theirs: Path) -> None:
    """Make the file `mine` newer than `theirs`, where it is not and can be.

    What numba keeps on disk of a file's functions it takes as long as that file is as old, and in it is what they call
    of other files.
    """
    with suppress(OSError):  # an installation that cannot be written to changes as a whole
        if theirs.stat().st_mtime_ns > mine.stat().st_mtime_ns:
            mine.touch()


newer_than(Path(__file__), Path(kernels.__file__))


@_kernel
def attend(
    qkv: Any,
    starts: Any,
    lengths: Any,
    firsts: Any,
    counts: Any,
    into: Any,
    cos: Any,
    sin: Any,
    half: Any,
    scale: float,
    tile: int,
    shares: Any,
    kept: bool,
    answers: Any,
) -> None:
    """What tokens find in their rows, of `qkv` [tokens, heads + 2 · keys, size], written to `answers` [·, heads, size].

    Row r is `lengths[r]` tokens from `starts[r]` on. Its `counts[r]` tokens from position `firsts[r]` on ask, and their
    answers go to the places from `into[r]` on. `cos` and `sin`, [positions, size], turn query and key (`take`).
    `shares` has room for the shares of all tiles, or, where they are not `kept`, for those of one.
    """
    _, heads, size = answers.shape
    keys = (qkv.shape[1] - heads) // 2
    longest, at = lengths.max(), 0
    room, v = np.empty(longest * size, np.float32), np.empty((longest, size), np.float32)
    q, found = np.empty((tile, size), np.float32), np.empty((tile, size), np.float32)
    for r in range(len(starts)):
        for key in range(keys):
            take(qkv, heads + keys + key, starts[r], lengths[r], 0, cos[:0], sin[:0], half, v)
            for t in range(_last_tile(counts[r], tile), -1, -tile):
                asked = min(tile, counts[r] - t)
                first, seen = firsts[r] + t, firsts[r] + t + asked
                k = room[: seen * size].reshape(size, seen)
                take(qkv, heads + key, starts[r], seen, 0, cos, sin, half, k.T)
                for head in range(key * heads // keys, (key + 1) * heads // keys):
                    share = shares[at : at + asked * seen].reshape(asked, seen)
                    take(qkv, head, starts[r] + first, asked, first, cos, sin, half, q)
                    np.dot(q[:asked], k, share)
                    causal_shares(share, first, scale)
                    np.dot(share, v[:seen], found[:asked])
                    give(found, into[r] + t, asked, 0, cos[:0], sin[:0], half, answers, head)
                    if kept:
                        at += share.size


@_kernel
def attend_slopes(
    qkv: Any,
    starts: Any,
    lengths: Any,
    firsts: Any,
    counts: Any,
    into: Any,
    cos: Any,
    sin: Any,
    half: Any,
    scale: float,
    tile: int,
    shares: Any,
    grads: Any,
    slopes: Any,
) -> None:
    """`slopes` [tokens, heads + 2 · keys, size] of `qkv`, from `grads` [·, heads, size] of what `attend` answered.

    The other arguments are those of `attend`, whose shares were kept. Queries of tokens that do not ask stay as they
    are.
    """
    _, heads, size = grads.shape
    keys = (qkv.shape[1] - heads) // 2
    longest, at = lengths.max(), 0
    k, room = np.empty((longest, size), np.float32), np.empty(longest * size, np.float32)
    q, of_q = np.empty((tile, size), np.float32), np.empty((tile, size), np.float32)
    towards, of_scores = np.empty((tile, size), np.float32), np.empty(tile * longest, np.float32)
    of_k, of_v = np.empty((longest, size), np.float32), np.empty((longest, size), np.float32)
    more = np.empty((longest, size), np.float32)
    for r in range(len(starts)):
        for key in range(keys):
            take(qkv, heads + key, starts[r], lengths[r], 0, cos, sin, half, k)
            summed = 0  # tokens of `of_k` and `of_v` that have a number: all that the first tile sees
            for t in range(_last_tile(counts[r], tile), -1, -tile):
                asked = min(tile, counts[r] - t)
                first, seen = firsts[r] + t, firsts[r] + t + asked
                v = room[: seen * size].reshape(size, seen)
                take(qkv, heads + keys + key, starts[r], seen, 0, cos[:0], sin[:0], half, v.T)
                for head in range(key * heads // keys, (key + 1) * heads // keys):
                    share = shares[at : at + asked * seen].reshape(asked, seen)
                    slope = of_scores[: asked * seen].reshape(asked, seen)
                    at += share.size
                    take(qkv, head, starts[r] + first, asked, first, cos, sin, half, q)
                    take(grads, head, into[r] + t, asked, 0, cos[:0], sin[:0], half, towards)
                    np.dot(towards[:asked], v, slope)
                    causal_slopes(share, slope, scale)
                    np.dot(slope, k[:seen], of_q[:asked])
                    give(of_q, starts[r] + first, asked, first, cos, sin, half, slopes, head)
                    if summed:
                        np.dot(slope.T, q[:asked], more[:seen])
                        _add(of_k, more, seen)
                        np.dot(share.T, towards[:asked], more[:seen])
                        _add(of_v, more, seen)
                    else:
                        np.dot(slope.T, q[:asked], of_k[:seen])
                        np.dot(share.T, towards[:asked], of_v[:seen])
                        summed = seen
            give(of_k, starts[r], summed, 0, cos, sin, half, slopes, heads + key)
            give(of_v, starts[r], summed, 0, cos[:0], sin[:0], half, slopes, heads + keys + key)


@_kernel
def _last_tile(count: int, tile: int) -> int:
    """Where the last tile of so many tokens begins; tiles go from the last to the first, which sees least."""
    return (count - 1) // tile * tile


@_kernel
def attend_next(
    qkv: Any, cos: Any, sin: Any, half: Any, scale: float, seen: Any, keys: Any, values: Any, answers: Any
) -> None:
    """What one more token of each row finds in itself and those before it, written to `answers` [rows, heads, size].

    `qkv` is [rows, heads + 2 · keys, size], `cos` and `sin` [rows, size]. The token's key, turned, and its value go
    beside those of the row's other tokens, fp32 `keys` and `values` [rows, keys, ·, size], at the last place of `seen`
    [rows, read]: of the others only those with a one there are looked at. What comes before the first of them is not
    even read: keys and values of a batch are more than a core's caches hold.
    """
    rows, heads, size = answers.shape
    alike, read = keys.shape[1], seen.shape[1]
    group = heads // alike
    q, found = np.empty((heads, size), np.float32), np.empty((group, size), np.float32)
    room, lights = np.empty(group * read, np.float32), np.empty(read, np.float32)
    for row in range(rows):
        one, first = qkv[row : row + 1], 0
        while first < read - 1 and not seen[row, first]:
            first += 1
        count = read - first
        lit, shares = lights[:count], room[: group * count].reshape(group, count)
        for i in range(count):
            lit[i] = seen[row, first + i] != 0
        lit[count - 1] = 1
        for head in range(heads):
            take(one, head, 0, 1, row, cos, sin, half, q[head : head + 1])
        for key in range(alike):
            k, v = keys[row, key, first:read], values[row, key, first:read]
            take(one, heads + key, 0, 1, row, cos, sin, half, k[count - 1 :])
            take(one, heads + alike + key, 0, 1, row, cos[:0], sin[:0], half, v[count - 1 :])
            if count == 1:
                found[:] = v
            else:
                np.dot(q[key * group : (key + 1) * group], k.T, shares)
                for head in range(group):
                    share = shares[head]
                    for i in range(count):
                        share[i] = share[i] * f4(scale) if lit[i] else f4(-1e30)
                    largest = _largest(share)
                    for i in range(count):
                        share[i] = _exp(share[i] - largest) * lit[i]
                    whole = f4(1) / _sum(share)
                    for i in range(count):
                        share[i] *= whole
                np.dot(shares, v, found)
            for head in range(group):
                give(found[head:], 0, 1, 0, cos[:0], sin[:0], half, answers[row : row + 1], key * group + head)


@_kernel
def causal_shares(scores: Any, first: int, scale: float) -> None:
    """In place: `scores` [asked, width] become softmax(scale * scores) over a place and those before it.

    The places asked for are `first` and those after it.
    """
    asked, width = scores.shape
    factor = f4(scale)
    for t in range(asked):
        row = scores[t]
        largest = _largest(row[: first + t + 1])
        for i in range(width):
            row[i] = (row[i] - largest) * factor
    together = scores.reshape(asked * width)
    for i in range(asked * width):  # of places to come too: part of one long loop is cheaper than many short ones
        together[i] = _exp(together[i])
    for t in range(asked):
        row, seen = scores[t], min(first + t + 1, width)
        share = f4(1) / _sum(row[:seen])
        for i in range(seen):
            row[i] *= share
        row[seen:] = 0


@_kernel
def causal_slopes(shares: Any, grads: Any, scale: float) -> None:
    """In place: `grads` [asked, width], of what `causal_shares` answered, become those of its scores."""
    asked, width = grads.shape
    factor = f4(scale)
    for t in range(asked):
        share, row = shares[t], grads[t]
        along = _dot(share, row)
        for i in range(width):  # a place to come has no share, and so no slope
            row[i] = share[i] * (row[i] - along) * factor


@_kernel
def _add(total: Any, more: Any, count: int) -> None:
    for i in range(count):
        for j in range(total.shape[1]):
            total[i, j] += more[i, j]
