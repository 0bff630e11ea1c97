"""Where a base model computes, and in which number format: as the settings say, or the best there is by measurement.

bf16 halves the bytes of the base and, where the hardware has units for it, multiplies the rate of its products; where
it has none, bf16 is slower than fp32. So one product of the model's own shape is timed in both, unless the base is so
small that products are not what it waits for. A memory's weights, its optimiser and every loss stay in fp32 either way.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import TYPE_CHECKING

from imprint.base.settings import Device, Dtype
from imprint.base.sites import Site
from imprint.errors import BaseModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

TIMES_AS_FAST = 1.5
"""What bf16 must bring to be taken: less would not pay for three fewer digits."""
NARROW = 256
"""On a CPU a base with narrower sites stays in fp32: its time is not in its products (docs/decisions/0010)."""
TOKENS, TRIES = 512, 5


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


def dtype_for(wanted: Dtype, sites: tuple[Site, ...], device: torch.device) -> torch.dtype:
    """The number format for a base with these sites on this device; `auto` is measured once a process.

    A narrow base on a CPU is in fp32 without a measurement.
    """
    import torch

    if wanted != "auto":
        return torch.float32 if wanted == "float32" else torch.bfloat16
    largest = max(sites, key=lambda site: site.in_features * site.out_features)
    if device.type == "cpu" and min(largest.in_features, largest.out_features) < NARROW:
        return torch.float32
    return faster_dtype(bfloat16_speed(str(device), largest.in_features, largest.out_features))


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with its weights in this format. Buffers stay: rotary frequencies need all their digits."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def faster_dtype(speed: float) -> torch.dtype:
    """bf16 where its products are at least `TIMES_AS_FAST` times as fast as those in fp32, else fp32."""
    import torch

    return torch.bfloat16 if speed >= TIMES_AS_FAST else torch.float32


@cache
def bfloat16_speed(device: str, width_in: int, width_out: int) -> float:
    """How many times as fast as in fp32 a product [tokens, in] x [in, out] is in bf16 on this device."""
    import torch

    single, half = (_seconds(device, width_in, width_out, dtype) for dtype in (torch.float32, torch.bfloat16))
    speed = single / half
    taken = str(faster_dtype(speed)).removeprefix("torch.")
    log.info("base.dtype auto: products on %s are %.1f times as fast in bfloat16: the base is %s", device, speed, taken)
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
