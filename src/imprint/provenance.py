"""Fingerprints and run records: what made this, from what, with which code.

A fingerprint is the first 16 hex digits of a SHA-256 over canonical JSON, so that equal inputs have equal names on
every machine. A score without its conditions is not a score: `run_conditions` gathers them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any

PACKAGES = ("imprint", "torch", "transformers", "peft", "hyperopt", "pyarrow", "numpy", "great-expectations", "kedro")
"""Whose versions a run record carries."""

PROCESSORS, NVIDIA = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus")
"""Where Linux and NVIDIA's driver say what the hardware is called; asked here, below everything that knows torch."""
PROCESS = Path("/proc/self/status")


def fingerprint(*parts: Any) -> str:
    """16 hex digits that name `parts`: JSON values, or objects with `model_dump` (pydantic)."""
    plain = [part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in parts]
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def fingerprint_of_rows(rows: Iterable[str]) -> str:
    """16 hex digits over row texts in their order; streams, so a user's whole history never has to be in one string."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(hashlib.sha256(row.encode()).digest())
    return digest.hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """The full SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seed_for(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and `names` alone: one user's randomness never depends on another's turn."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def code_version(root: Path | None = None) -> dict[str, Any]:
    """`{"commit", "dirty"}` of the checkout around this file; both None where there is none and nobody says.

    An image has no checkout. What it was built from stands in the environment, as IMPRINT_COMMIT.
    """
    here = root or Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        dirty = bool(_git(here, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return {"commit": os.environ.get("IMPRINT_COMMIT") or None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def _git(where: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True, timeout=20)
    return run.stdout.strip()


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide a result, and Python's own."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def device() -> dict[str, Any]:
    """The hardware of a run: `machine`, `system`, `processor`, `cores` it may use, and the names of `accelerators`."""
    may_use = getattr(os, "sched_getaffinity", None)
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor_name(),
        "cores": len(may_use(0)) if may_use else os.cpu_count(),
        "accelerators": accelerator_names(),
    }


def peak_memory_mib() -> float:
    """MiB of memory in use at most so far, by this process and what forks of it said they have for themselves.

    What was there before this process is not counted: on Linux getrusage includes its parent's. Nor are pages that two
    forks share with each other and no longer with this process.
    """
    if PROCESS.is_file():
        return _mib(PROCESS, "VmHWM") + FORKS.peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # in bytes on macOS


def own_memory_mib() -> float:
    """MiB that this process shares with no other; 0 where the system does not say."""
    rollup = PROCESS.with_name("smaps_rollup")
    return _mib(rollup, "Private_Dirty") if rollup.is_file() else 0.0


class Forks:
    """What forks say they have for themselves (`own_memory_mib`), and the most they had together, MiB."""

    def __init__(self) -> None:
        self._now: dict[int, float] = {}
        self._lock = Lock()
        self.peak = 0.0

    def has(self, pid: int, mib: float) -> None:
        """A fork said how much it has."""
        with self._lock:
            self._now[pid] = mib
            self.peak = max(self.peak, sum(self._now.values()))

    def is_gone(self, pid: int) -> None:
        """A fork's memory is free; what it had stays in the peak."""
        with self._lock:
            self._now.pop(pid, None)


FORKS = Forks()


def _mib(file: Path, key: str) -> float:
    return sum(int(value.split()[0]) for value in _values(file, key)) / 1024


def processor_name(file: Path = PROCESSORS) -> str | None:
    """What the processor calls itself; None where nobody says."""
    named = _values(file, "model name") if file.is_file() else []
    return next(iter(named), platform.processor() or None)


def accelerator_names(folder: Path = NVIDIA) -> list[str]:
    """The models of the machine's NVIDIA GPUs, in the driver's order; empty where there is no driver."""
    return [name for file in sorted(folder.glob("*/information")) for name in _values(file, "Model")]


def _values(file: Path, key: str) -> list[str]:
    lines = (line.partition(":") for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == key]


def run_conditions(seed: int, **fingerprints: str) -> dict[str, Any]:
    """What a score was measured under: seed, fingerprints, code, versions, device. No clock: equal runs are equal."""
    return {
        "seed": seed,
        "fingerprints": fingerprints,
        "code": code_version(),
        "versions": versions(),
        "device": device(),
    }
