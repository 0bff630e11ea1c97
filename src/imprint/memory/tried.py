"""Memories that trials of users' own or cohorts' studies made: who is given such a config is not trained in it again.

    <workspace>/tried-memories-<search>/<user_id>/<config as trained>.safetensors

Of each user stay the memories that may be wanted: of their study's first trial that did not fail, which is in the
population's config, and of the config that it would choose by now. They may be removed at any time; then users are
trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imprint.memory.config import MemoryConfig
from imprint.memory.parts import about_part, read_part, write_part
from imprint.memory.weights import Memory
from imprint.provenance import fingerprint
from imprint.storage import fetch, remove

if TYPE_CHECKING:
    from imprint.memory.trainer import Trained


class Tried(NamedTuple):
    """A memory that a trial made, and the seconds that its training took."""

    path: Path
    seconds: float
    strength: float

    def load(self) -> Memory:
        """The memory itself, at the strength it was asked for."""
        return read_part(self.path).at_strength(self.strength)


class TriedMemories:
    """The memories that the trials of one search made."""

    def __init__(self, workspace: Path, search: str) -> None:
        """Below `workspace`, by the search's fingerprint."""
        self.search = search
        self._folder = workspace / folder_of(search)

    def keep(self, trained: Trained, history: str, by: str) -> None:
        """Keep what a trial made of a user; `history` is the fingerprint of all of the user's training rows.

        `by` says how it was trained (`training.trained_by`).
        """
        path = self._path(trained.memory.user_id, trained.memory.config)
        write_part(path, trained.memory, trained.seconds, history=history, trained_by=by)

    def remove(self, user_id: str, config: MemoryConfig) -> None:
        """Remove the user's memory in this config; it need not be there."""
        remove(self._path(user_id, config))

    def find(self, user_id: str, config: MemoryConfig, history: str, by: str) -> Tried | None:
        """The user's memory in this config, if it was trained on these very rows in this way."""
        path = fetch(self._path(user_id, config))
        if not path.is_file():
            return None
        about = about_part(path)
        same = (about["history"], about["trained_by"]) == (history, by)
        return Tried(path, about["seconds"], config.strength) if same else None

    def _path(self, user_id: str, config: MemoryConfig) -> Path:
        # a strength is chosen after training, and one memory serves all of them
        return self._folder / user_id / f"{fingerprint(config.as_trained.model_dump(mode='json'))}.safetensors"


def folder_of(search: str) -> str:
    """The name of the folder with what a search's trials made."""
    return f"tried-memories-{search}"
