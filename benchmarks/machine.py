"""The machine of a run: its name, its threads, and how fast it multiplies matrices at this moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

PACKAGES = ("torch", "transformers", "peft", "accelerate", "imprint")
SQUARES = {"cpu": (1024, 2048), "cuda": (2048, 4096, 8192)}
Product = tuple[int, int, int]
Result = TypeVar("Result")


class Rates(NamedTuple):
    """Matrix products of this machine, in FLOP/s."""

    fp32: float
    bf16: float

    @property
    def best(self) -> float:
        """The faster of the two: what every achieved rate is held against."""
        return max(self)

    @property
    def bf16_pays(self) -> bool:
        """Whether work in bf16 can be faster here."""
        return self.bf16 > self.fp32


def timed(work: Callable[[], Result], device: str) -> tuple[float, Result]:
    """Seconds that `work` takes until the device has finished it, and what it returns."""
    _wait(device)
    started = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - started, result


def release(device: str) -> None:
    """Give a card's memory that nothing uses any more back to it, for other processes."""
    if device == "cuda":
        torch.cuda.empty_cache()


def product_rates(device: str, shapes: Iterable[Product], seconds: float) -> Rates:
    """The best rate over square matrices and `shapes` (each m, k, n), every shape tried for about `seconds`."""
    squares = [(size, size, size) for size in SQUARES[device]]
    every = [*squares, *shapes]
    best = [max(_rate(shape, dtype, device, seconds) for shape in every) for dtype in (torch.float32, torch.bfloat16)]
    return Rates(*best)


def hardware(device: str) -> str:
    """The name of the processor or the card."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown CPU"


def versions() -> dict[str, str]:
    """Versions of what was measured."""
    return {name: version(name) for name in PACKAGES}


def _rate(shape: Product, dtype: torch.dtype, device: str, seconds: float) -> float:
    m, k, n = shape
    left = torch.randn(m, k, device=device).to(dtype)
    right = torch.randn(k, n, device=device).to(dtype)
    repeats = 10 if device == "cuda" else 1  # a single product on a card is too short to time
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 2 or spent < seconds:  # the first of them warms up
        taken, _ = timed(lambda: [torch.mm(left, right) for _ in range(repeats)], device)
        best, spent, runs = min(best, taken / repeats), spent + taken, runs + 1
    return 2 * m * k * n / best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
