"""Fingerprints and run records: what made this, from what, with which code.

A fingerprint is the first 16 hex digits of a SHA-256 over canonical JSON, so that equal inputs have equal names on
every machine. A score without its conditions is not a score: `run_conditions` gathers them.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("imprint", "torch", "transformers", "peft", "hyperopt", "pyarrow", "numpy", "great-expectations", "kedro")
"""Whose versions a run record carries."""


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
    """`{"commit", "dirty"}` of the checkout around this file, or both None where there is no git checkout."""
    here = root or Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        dirty = bool(_git(here, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
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


def run_conditions(seed: int, **fingerprints: str) -> dict[str, Any]:
    """What a score was measured under: seed, fingerprints, code, versions, device. No clock: equal runs are equal."""
    return {
        "seed": seed,
        "fingerprints": fingerprints,
        "code": code_version(),
        "versions": versions(),
        "device": {"machine": platform.machine(), "system": platform.system()},
    }
