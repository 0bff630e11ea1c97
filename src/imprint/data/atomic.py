"""Write whole or not at all: a temporary name beside the target, then a rename; in a directory the manifest comes last.

A reader that finds `manifest.json` therefore finds everything the manifest lists. What is written at a place in
a bucket (`imprint.storage`) goes there in the same order: finished here first, then in one piece, the manifest last.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imprint.provenance import file_sha256
from imprint.storage import MANIFEST, beside, flush, left_beside, publish, refresh


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return beside(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`, so that a reader sees the old file or the new one, never half of one."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path)


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of indented JSON; keys keep their order, non-ASCII text stays readable."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


@contextmanager
def new_directory(path: Path, manifest: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Yield an empty directory to fill; on leaving it normally, it becomes `path`, with `manifest.json` written last.

    The manifest holds `manifest`'s own keys (read after the block, so the block may fill them in) and
    `files: {name: {"sha256", "bytes"}}`. On an exception nothing of it stays, and what was at `path` is untouched.
    """
    for left in left_beside(path):  # it holds people's words
        shutil.rmtree(left, ignore_errors=True)  # another run may be at it too
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        files = {
            str(file.relative_to(temporary)): {"sha256": file_sha256(file), "bytes": file.stat().st_size}
            for file in sorted(temporary.rglob("*"))
            if file.is_file()
        }
        write_json(temporary / MANIFEST, {**(manifest or {}), "files": files})
        move_directory(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def move_directory(finished: Path, path: Path) -> None:
    """Let the finished directory (same file system) take the place of `path`, whatever was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        outgoing = _temporary(path)
        path.replace(outgoing)
        finished.replace(path)
        shutil.rmtree(outgoing)
    else:
        finished.replace(path)
    publish(path)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of the directory at `path`, or None where there is none (unfinished, or never written)."""
    return json.loads((path / MANIFEST).read_text(encoding="utf-8")) if refresh(path) else None
