"""One memory in one file: what is trained before all of a store is there, or before it is known to be wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imprint.data.atomic import write_bytes
from imprint.memory.config import MemoryConfig
from imprint.memory.weights import Episode, Factors, Memory

if TYPE_CHECKING:
    from torch import Tensor


def write_part(path: Path, memory: Memory, seconds: float, **also: Any) -> None:
    """Write a memory, the seconds that its training took, and what `also` is to be known of it (`about_part`)."""
    from safetensors.torch import save

    tensors = {
        f"{number}/{site}/{letter}": factor.contiguous()
        for number, episode in enumerate(memory.episodes)
        for site, factors in episode.factors.items()
        for letter, factor in zip("ab", factors, strict=True)
    }
    about = {
        "user_id": memory.user_id,
        "base_fingerprint": memory.base_fingerprint,
        "config": memory.config.model_dump(mode="json"),
        "episodes": [[episode.rows, episode.row_fingerprint] for episode in memory.episodes],
        "epochs": [episode.epochs for episode in memory.episodes],
        "seconds": round(seconds, 4),
        **also,
    }
    write_bytes(path, save(tensors, metadata={"memory": json.dumps(about)}))


def about_part(path: Path) -> dict[str, Any]:
    """What is written beside a part's tensors; none of these are read."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as part:
        about: dict[str, Any] = json.loads(part.metadata()["memory"])
    return about


def read_part(path: Path) -> Memory:
    """The memory in a part."""
    from safetensors.torch import load_file

    about, tensors = about_part(path), load_file(path)
    config = MemoryConfig(**about["config"])
    epochs = about.get("epochs", [config.epochs] * config.n_memories)  # absent before training could stop early
    episodes = [
        Episode(rows, row_fingerprint, done, _factors(tensors, f"{number}/"))
        for number, ((rows, row_fingerprint), done) in enumerate(zip(about["episodes"], epochs, strict=True))
    ]
    return Memory(about["user_id"], about["base_fingerprint"], config, tuple(episodes))


def _factors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Factors]:
    sites = sorted({name[len(prefix) : -len("/a")] for name in tensors if name.startswith(prefix)})
    return {site: Factors(tensors[f"{prefix}{site}/a"], tensors[f"{prefix}{site}/b"]) for site in sites}
