"""What a task leaves for the run's outcome: that it is at work, or why it failed. A small file a task.

Kubeflow tells an exit handler that a run failed, and never why. So an attempt leaves a file when it begins, another in
its place when it fails, and none when it is done. The file of a pod that was killed says that it was at work.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

_LONGEST = 500  # characters of an error; the log has all of it


class Task(NamedTuple):
    """One task of a run, and the folder or URL where the run's outcome is going to be."""

    folder: str
    run: str
    step: str
    item: str | None

    @property
    def place(self) -> str:
        """The task's file; an item may be any text."""
        item = "" if self.item is None else f"-{hashlib.sha256(self.item.encode()).hexdigest()[:16]}"
        return f"{_folder(self.folder, self.run)}/{self.step}{item}.json"

    def leave(self, code: int | None = None, node: str | None = None, error: str | None = None) -> None:
        """Say that the task is at work; or, with an exit code, why it failed."""
        said = error[:_LONGEST] if error else None
        write_json(self.place, {"step": self.step, "item": self.item, "node": node, "code": code, "error": said})

    def take_back(self) -> None:
        """Leave nothing: the task is done."""
        files, path = _at(self.place)
        with suppress(FileNotFoundError):
            files.rm_file(path)


def gather(folder: str, run: str) -> list[dict[str, Any]]:
    """What tasks of the run have left, those that failed first."""
    files, path = _at(_folder(folder, run))
    left = [json.loads(files.cat_file(one)) for one in sorted(files.find(path))]
    return sorted(left, key=lambda words: words["code"] is None)


def clear(folder: str, run: str) -> None:
    """Remove what tasks of the run have left."""
    files, path = _at(_folder(folder, run))
    if files.exists(path):
        files.rm(path, recursive=True)


def write_json(place: str, record: Mapping[str, Any]) -> None:
    """Write one JSON file, whole or not at all, to a path or a URL."""
    files, path = _at(place)
    files.makedirs(posixpath.dirname(path), exist_ok=True)
    with files.transaction, files.open(path, "wb") as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())


def _folder(folder: str, run: str) -> str:
    return f"{folder.rstrip('/')}/{run}.tasks"


def _at(place: str) -> tuple[Any, str]:
    import fsspec

    files, path = fsspec.core.url_to_fs(place, use_listings_cache=False)  # other pods write as well
    return files, path
