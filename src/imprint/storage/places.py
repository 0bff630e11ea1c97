"""URLs as paths of a working folder, and single objects to and from a bucket. An object appears whole or not at all."""

from __future__ import annotations

import atexit
import functools
import glob
import math
import os
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from imprint.errors import BucketError, StoreError

WORKING = "IMPRINT_WORKING_FOLDER"
"""The variable with the folder that stands for buckets. The first process to need one makes it and removes it at its
end; processes that it begins share it, and so do paths that they are given."""
_UNFINISHED = ".tmp"
LEFT_AFTER = timedelta(days=1)
"""Age at which what nobody is known to write is that of a writer that was killed."""
AT_ONCE = 4
"""Files on their way to or from a bucket at one time; each may take 100 MB of memory."""


class Place(NamedTuple):
    """Where a path of the working folder lies in a bucket."""

    protocol: str
    url: str

    @property
    def files(self) -> Any:
        """The store's fsspec client. `BucketError` where it is not installed."""
        return _client(self.protocol)

    def of(self, name: str) -> str:
        """The URL of what is called `name` below."""
        return f"{self.url}/{name}"

    def kind(self) -> str | None:
        """`file`, `directory`, or None where there is nothing."""
        try:
            return str(self.files.info(self.url)["type"])
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes | None:
        """The contents of the object `name` below; None where there is none."""
        try:
            content: bytes = self.files.cat_file(self.of(name))
        except FileNotFoundError:
            return None
        return content

    def below(self, folder: str = "") -> dict[str, dict[str, Any]]:
        """What the store says of every object below, or below `folder`, by its name there."""
        url = self.of(folder) if folder else self.url
        start = len(self.files._strip_protocol(url)) + 1
        return {key[start:]: info for key, info in self.files.find(url, detail=True).items()}

    def download(self, wanted: Mapping[str, Path]) -> None:
        """The objects below of these names, each to its path; first beside it, so that none is there by half."""
        unfinished = {name: beside(path) for name, path in wanted.items()}
        for path in unfinished.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if unfinished:
                urls = [self.of(name) if name else self.url for name in unfinished]
                self.files.get(urls, [str(path) for path in unfinished.values()], batch_size=AT_ONCE)
            for name, path in unfinished.items():
                path.replace(wanted[name])
        finally:
            for path in unfinished.values():
                path.unlink(missing_ok=True)


def _working() -> Path:
    if WORKING not in os.environ:
        folder = tempfile.mkdtemp(prefix="imprint-")  # for its owner alone: it holds people's words
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[WORKING] = folder
    return Path(os.environ[WORKING], "objects")


@functools.cache
def _client(protocol: str) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)  # other pods write as well
    except (ImportError, ValueError) as error:
        raise BucketError(
            f"{protocol}:// cannot be reached from here: {error}. Next: for s3://, in the checkout, pip install "
            "-c constraints.txt -e '.[s3]'; else the fsspec client of that store."
        ) from error


def at(place: str) -> Path:
    """The path for a place that settings, the catalog or a record name: a path of this machine, or a bucket's URL.

    `BucketError` for a URL that names no bucket, leads upwards, or carries a password: places are told to everybody.
    """
    protocol, separator, rest = place.partition("://")
    if not separator:
        return Path(place)
    if protocol == "file":
        return Path(rest)
    if re.match(r"[^/@]*:[^@]*@", rest):  # a secret may hold slashes
        raise BucketError(
            f"a {protocol}:// URL carries a user and a password, which every log would repeat. "
            "Next: leave them out; the store's client finds them in the environment."
        )
    if not rest.strip("/") or ".." in rest.split("/"):
        raise BucketError(f"{place!r} is no place in a bucket. Next: write PROTOCOL://BUCKET/PREFIX, without '..'.")
    return _working() / protocol / rest.strip("/")


def address(path: Path) -> str:
    """What a record keeps and a reader is told: the URL of a place in a bucket, else the path. Undone by `at`."""
    place = place_of(path)
    return str(path) if place is None else place.url


def scratch(path: Path) -> Path:
    """Where to make what will be moved to `path` or thrown away: the path itself, or for a bucket a folder here."""
    return path if place_of(path) is None else _working().parent / "scratch" / path.relative_to(_working())


def flush(path: Path) -> None:
    """Bring the finished file at `path` to the bucket, in one piece."""
    place = place_of(path)
    if place is not None:
        with speaking_of(path, writing=True):
            place.files.put_file(str(path), place.url)


def flush_new(path: Path) -> bool:
    """`flush` unless the bucket has such an object already: of several writers at once, one is told True."""
    place = place_of(path)
    if place is not None:
        with speaking_of(path, writing=True):
            try:
                place.files.pipe_file(place.url, path.read_bytes(), mode="create")
            except FileExistsError:
                return False
    return True


def remove(path: Path) -> None:
    """Remove the file or folder, here and in the bucket; it need not be there."""
    place = place_of(path)
    if place is not None:
        with speaking_of(path):
            if place.kind() is not None:
                place.files.rm(place.url, recursive=True)
    discard(path)


def place_of(path: Path) -> Place | None:
    """None for a path of this machine: for every path, while no URL was asked for; and for what is `beside` another."""
    if WORKING not in os.environ or not path.is_relative_to(_working()):
        return None
    protocol, *parts = path.relative_to(_working()).parts
    if any(part.startswith(".") and part.endswith(_UNFINISHED) for part in parts):
        return None
    return Place(protocol, f"{protocol}://{'/'.join(parts)}")


@contextmanager
def speaking_of(path: Path, *, writing: bool = False) -> Iterator[None]:
    """Whatever the store's client raises becomes a `BucketError`; while reading, absence stays what it is."""
    try:
        yield
    except (BucketError, StoreError):
        raise
    except Exception as error:  # each client has its own errors
        if isinstance(error, FileNotFoundError) and not writing:
            raise
        said = (str(error).splitlines() or [""])[0]
        raise BucketError(
            f"{address(path)}: the bucket could not be {'written' if writing else 'read'} ({type(error).__name__}: "
            f"{said}). Next: check that it exists, and endpoint, region and keys in the environment (AWS_*)."
        ) from error


def beside(path: Path) -> Path:
    """A name in the same folder for what is being made, with who makes it; no bucket sees it."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}{_UNFINISHED}")


def left_beside(path: Path) -> list[Path]:
    """What killed writers of `path` left: their process has ended on this machine, or the name is LEFT_AFTER old.

    What another run makes at this moment is not among it.
    """
    old = time.time() - LEFT_AFTER.total_seconds()
    found = path.parent.glob(f".{glob.escape(path.name)}.*{_UNFINISHED}")
    return [one for one in found if _ended(one, path) or _changed(one) < old]


def _ended(one: Path, path: Path) -> bool:
    host, _, rest = one.name.removeprefix(f".{path.name}.").partition("-")
    pid = rest.partition("-")[0]
    if host != _host() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # somebody else's, and alive
    return False


def _changed(one: Path) -> float:
    try:
        return one.stat().st_mtime
    except FileNotFoundError:
        return math.inf  # its writer has just finished


@functools.cache
def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())


def discard(path: Path) -> None:
    """Remove what is here at `path`, whatever it is."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # another run may be at it too
    else:
        path.unlink(missing_ok=True)
