"""Folders in a bucket. A finished one is its manifest: the files lie below a name that follows from their contents, and
the manifest, written last and in one piece, says which. A reader therefore sees the old folder or the new one, never
some of both, and two writers of the same contents write the same objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from imprint.errors import StoreError
from imprint.provenance import fingerprint
from imprint.storage.places import AT_ONCE, LEFT_AFTER, Place, beside, discard, place_of, speaking_of

MANIFEST = "manifest.json"

Manifest = Mapping[str, Any]
"""Of a finished folder; `files` has the sha256 and bytes of each file by name."""


def fetch(path: Path) -> Path:
    """Have here what the bucket has at `path`, a file, a finished folder or any folder; the path, for reading.

    Where the bucket has nothing, nothing is here afterwards. Of a folder comes what is not here yet.
    """
    place = place_of(path)
    if place is None:
        return path
    with speaking_of(path):
        kind = place.kind()
        if kind == "file":
            place.download({"": path})
        elif kind is None:
            discard(path)
        elif refresh(path):
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            fetch_listed(path, manifest, manifest["files"])
        else:
            _mirror(place, path)
    return path


def refresh(directory: Path) -> bool:
    """Whether there is a finished folder. What is here of another than the bucket's is thrown away."""
    place, file = place_of(directory), directory / MANIFEST
    if place is not None:
        with speaking_of(directory):
            content = place.read(MANIFEST)
        if content is None:
            discard(file)
        elif not file.is_file() or file.read_bytes() != content:
            discard(directory)
            directory.mkdir(parents=True)
            unfinished = beside(file)
            unfinished.write_bytes(content)
            unfinished.replace(file)
    return file.is_file()


def fetch_listed(directory: Path, manifest: Manifest, names: Iterable[str]) -> Path:
    """Have here these files of a finished folder; the folder. `StoreError` where its writer has replaced it since."""
    place = place_of(directory)
    if place is None:
        return directory
    missing = [name for name in names if _size(directory / name) != manifest["files"][name]["bytes"]]
    with speaking_of(directory):
        try:
            place.download({_object(manifest, name): directory / name for name in missing})
        except FileNotFoundError as error:
            raise _replaced(place) from error
    return directory


def read_span(directory: Path, manifest: Manifest, name: str, offset: int, length: int) -> bytes:
    """These bytes of one file of a finished folder; no more of it is fetched. Likewise `StoreError`."""
    place, file = place_of(directory), directory / name
    if place is None or file.is_file():
        with file.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    with speaking_of(directory):
        try:
            content: bytes = place.files.cat_file(place.of(_object(manifest, name)), start=offset, end=offset + length)
        except FileNotFoundError as error:
            raise _replaced(place) from error
    return content


class Listing(NamedTuple):
    """A finished folder's files for Arrow, which reads them where they lie: `filesystem` None is this machine's.

    `locations` of all that the manifest lists, `sizes` in bytes of those that are there.
    """

    filesystem: Any
    locations: dict[str, str]
    sizes: dict[str, int]


def listing(directory: Path, manifest: Manifest) -> Listing:
    """Where the files that the manifest lists are, and what is really there of them."""
    place, names = place_of(directory), list(manifest["files"])
    if place is None:
        found = {name: size for name in names if (size := _size(directory / name)) is not None}
        return Listing(None, {name: str(directory / name) for name in names}, found)
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    with speaking_of(directory):
        sizes = {name: info["size"] for name, info in place.below(_version(manifest)).items()}
    locations = {name: place.files._strip_protocol(place.of(_object(manifest, name))) for name in names}
    return Listing(PyFileSystem(FSSpecHandler(place.files)), locations, sizes)


def publish(directory: Path) -> None:
    """Bring the finished folder at `directory` to the bucket, the manifest last, and remove the one it replaces."""
    place = place_of(directory)
    if place is None:
        return
    content = (directory / MANIFEST).read_bytes()
    manifest = json.loads(content)
    objects = {str(directory / name): place.of(_object(manifest, name)) for name in manifest["files"]}
    with speaking_of(directory, writing=True):
        before = place.read(MANIFEST)
        if objects:
            place.files.put(list(objects), list(objects.values()), batch_size=AT_ONCE)
        place.files.pipe_file(place.of(MANIFEST), content)
        _sweep(place, _version(manifest), _version(json.loads(before)) if before else None)


def _version(manifest: Manifest) -> str:
    return fingerprint(manifest["files"])


def _object(manifest: Manifest, name: str) -> str:
    """Under which name in a folder of a bucket the file `name` lies."""
    return f"{_version(manifest)}/{name}"


def _mirror(place: Place, folder: Path) -> None:
    there = place.below()
    for file in folder.rglob("*"):
        if file.is_file() and str(file.relative_to(folder)) not in there:
            file.unlink()
    place.download({name: folder / name for name, info in there.items() if _size(folder / name) != info["size"]})


def _sweep(place: Place, live: str, replaced: str | None) -> None:
    """Remove what the folder consisted of before, and what killed writers left; never what one may be writing now."""
    old = datetime.now(UTC) - LEFT_AFTER
    doomed = []
    for name in place.below():
        version = name.partition("/")[0]
        if version in (live, MANIFEST):
            continue
        if version == replaced or place.files.modified(place.of(name)) < old:
            doomed.append(place.of(name))
    if doomed:
        place.files.rm(doomed)


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _replaced(place: Place) -> StoreError:
    return StoreError(
        f"{place.url} was replaced while it was read: its files are gone. Next: run again; what is there now is whole."
    )
