"""Where a base model computes, and in which number format: as the settings say, or the best there is by measurement.

bf16 halves the bytes of the base and, where the hardware has units for it, multiplies the rate of its products; where
it has none, bf16 is slower than fp32. So one product of the model's own shape is timed in both, unless the base is so
small that products are not what it waits for. A memory's weights, its optimiser and every loss stay in fp32 either way.

A small base on a CPU is no burden in fp32, and keeps all its digits for scores and answers: there only the products of
training are in bf16 (`mixed`), from weights in fp32 with the memory's update added before a digit is cut.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from imprint.base.settings import Device, Dtype, Format
from imprint.base.sites import sites_of
from imprint.errors import BaseModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

TIMES_AS_FAST = 1.5
"""What bf16 must bring to be taken: less would not pay for three fewer digits."""
NARROW, TINY = 256, 96
"""On a CPU a base with narrower sites than the first is kept in fp32, and computes in it alone below the second: its
time is not in its products (docs/decisions/0010 and 0025)."""
TOKENS, TRIES, TURNS = 512, 5, 20
"""Rows of the product that is timed, how often at a time, and in how many turns in each format. A narrow base's product
takes a fraction of a millisecond: timed once in each, whoever else is at work for so long would decide the format."""


def device_for(wanted: Device) -> torch.device:
    """The device for a base; `auto` is CUDA where there is one. `BaseModelError` for CUDA where there is none."""
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise BaseModelError(
            "base.device: cuda was asked for, and torch finds no CUDA device on this machine; allowed here are auto "
            "and cpu. Next: set base.device to auto, or install a torch with CUDA and its driver."
        )
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def format_for(wanted: Dtype, model: nn.Module, device: torch.device) -> Format:
    """The number format for a loaded base on this device; `auto` is measured once a process.

    A tiny base on a CPU is in fp32 without a measurement. `BaseModelError` for `mixed` where there is no such way.
    """
    from imprint.base.fused import all_gated
    from imprint.base.halves import FAMILIES, in_halves

    mixes = device.type == "cpu" and in_halves(model) and all_gated(model)
    if wanted == "mixed" and not mixes:
        config: Any = model.config
        raise BaseModelError(
            f"base.dtype: mixed was asked for, on {device} and a {config.model_type} model; it is for a CPU and "
            f"{', '.join(FAMILIES)} with SiLU, without a window and with whole heads turned. "
            "Next: set base.dtype to auto, float32 or bfloat16, and base.device to cpu where a card is not meant."
        )
    if wanted != "auto":
        return wanted
    largest = max(sites_of(model), key=lambda site: site.in_features * site.out_features)
    width = min(largest.in_features, largest.out_features)
    wide = device.type != "cpu" or width >= NARROW
    if not wide and not (mixes and width >= TINY):
        return "float32"
    speed = bfloat16_speed(str(device), largest.in_features, largest.out_features)
    return "float32" if speed < TIMES_AS_FAST else "bfloat16" if wide else "mixed"


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with its weights in this format. Buffers stay: rotary frequencies need all their digits."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


@cache
def bfloat16_speed(device: str, width_in: int, width_out: int) -> float:
    """How many times as fast as in fp32 a product [tokens, in] x [in, out] is in bf16 on this device."""
    import torch

    formats = torch.float32, torch.bfloat16
    turns = [[_seconds(device, width_in, width_out, dtype) for dtype in formats] for _ in range(TURNS)]
    single, half = (min(seconds) for seconds in zip(*turns, strict=True))
    speed: float = single / half
    log.info("base.dtype auto: on %s products of this base are %.1f times as fast in bfloat16", device, speed)
    return speed


def _seconds(device: str, width_in: int, width_out: int, dtype: torch.dtype) -> float:
    """The best of some tries; the first run, in which libraries choose their kernels, does not count."""
    import torch

    x = torch.ones(TOKENS, width_in, device=device, dtype=dtype)
    weight = torch.ones(width_in, width_out, device=device, dtype=dtype)
    found = []
    for _ in range(TRIES + 1):
        _wait(device)
        started = time.perf_counter()
        torch.mm(x, weight)
        _wait(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
