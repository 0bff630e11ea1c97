"""Memories that a search's trials made: whoever is given such a config of these rows need not be trained in it again.

    <workspace>/tried-memories-<trained by>/<user_id>/<config>.safetensors

Of each user stay the memories that may be wanted: of the population's config, at which their study began, and of the
best config so far. They lie there until the workspace is cleared.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imprint.base.load import BaseModelInUse
from imprint.memory.config import MemoryConfig
from imprint.memory.parts import about_part, read_part, write_part
from imprint.memory.settings import MemorySettings
from imprint.memory.training import trained_by
from imprint.memory.weights import Memory
from imprint.provenance import fingerprint
from imprint.storage import fetch, remove

if TYPE_CHECKING:
    from imprint.memory.trainer import Trained

SUFFIX = ".safetensors"


class Tried(NamedTuple):
    """A memory that a trial made; `search` is the fingerprint of the search, which also says in what company."""

    path: Path
    search: str
    seconds: float

    def load(self) -> Memory:
        """The memory itself."""
        return read_part(self.path)


class TriedMemories:
    """The memories of trials on one base, trained in one way."""

    def __init__(self, workspace: Path, base: BaseModelInUse, memory: MemorySettings, seed: int) -> None:
        """Below `workspace`. Where training may stop early nothing is kept: a memory is its validation rows' then."""
        by = trained_by(base, memory, seed)
        self._folder = workspace / f"tried-memories-{by}" if by else None

    def keep(self, trained: Trained, history: str, search: str) -> None:
        """Keep what a trial of `search` made; `history` is the fingerprint of all the rows it was trained on."""
        if self._folder is not None:
            memory = trained.memory
            path = self._folder / memory.user_id / _named(memory.config)
            write_part(path, memory, trained.seconds, history=history, search=search)

    def leave(self, user_id: str, configs: Collection[MemoryConfig]) -> None:
        """Remove what is kept of the user in other configs than these."""
        if self._folder is not None and (self._folder / user_id).is_dir():
            wanted = {_named(config) for config in configs}
            for path in (self._folder / user_id).iterdir():
                if path.name.endswith(SUFFIX) and path.name not in wanted:
                    remove(path)

    def find(self, user_id: str, config: MemoryConfig, history: str) -> Tried | None:
        """The user's memory in this config, if it was trained on these very rows."""
        if self._folder is None:
            return None
        path = fetch(self._folder / user_id / _named(config))
        if not path.is_file():
            return None
        about: dict[str, Any] = about_part(path)
        return Tried(path, about["search"], about["seconds"]) if about["history"] == history else None


def _named(config: MemoryConfig) -> str:
    return f"{fingerprint(config.model_dump(mode='json'))}{SUFFIX}"
