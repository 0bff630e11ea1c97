"""The machine of a run: its name, its threads, and how fast it multiplies matrices at this moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import NamedTuple, TypeVar

import torch

PACKAGES = ("torch", "transformers", "peft", "accelerate", "imprint")
SQUARES = {"cpu": (1024, 2048), "cuda": (2048, 4096, 8192)}
Product = tuple[int, int, int]
Result = TypeVar("Result")


class Fastest(NamedTuple):
    """The fastest matrix product that was found in one format: its (m, k, n), and FLOP/s in its fastest call."""

    shape: Product
    dtype: torch.dtype
    rate: float


class Rates(NamedTuple):
    """Matrix products of this machine in its two formats."""

    fp32: Fastest
    bf16: Fastest

    @property
    def best(self) -> Fastest:
        """The faster of the two: what every achieved rate is held against."""
        return max(self, key=lambda one: one.rate)

    @property
    def bf16_pays(self) -> bool:
        """Whether work in bf16 can be faster here."""
        return self.bf16.rate > self.fp32.rate


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
    """The fastest of square matrices and `shapes` (each m, k, n), every shape tried for about `seconds`."""
    every = [*((size, size, size) for size in SQUARES[device]), *shapes]
    found = [
        [Fastest(shape, dtype, _flops(shape) / min(_calls(shape, dtype, device, seconds))) for shape in every]
        for dtype in (torch.float32, torch.bfloat16)
    ]
    return Rates(*(max(of_format, key=lambda one: one.rate) for of_format in found))


def steady_rate(product: Fastest, device: str, seconds: float) -> float:
    """FLOP/s of that product over `seconds` of nothing else: what the machine gives for longer than one call."""
    return _flops(product.shape) / fmean(_calls(product.shape, product.dtype, device, seconds))


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


def _flops(shape: Product) -> int:
    m, k, n = shape
    return 2 * m * k * n


def _calls(shape: Product, dtype: torch.dtype, device: str, seconds: float) -> list[float]:
    """Seconds of each call of a product, for about `seconds` after one that warms up."""
    m, k, n = shape
    left, right = torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype)
    repeats = 10 if device == "cuda" else 1  # a single product on a card is too short to time
    torch.mm(left, right)
    taken, spent = list[float](), 0.0
    while not taken or spent < seconds:
        together, _ = timed(lambda: [torch.mm(left, right) for _ in range(repeats)], device)
        taken.append(together / repeats)
        spent += together
    return taken


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
