"""An S3-compatible server in the tests: what lies in its buckets, and pods that share nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from imprint.storage import places

KEY, SECRET = "AKIDOFTHETESTS", "a-secret-that-no-log-may-show"


@contextmanager
def serving() -> Iterator[str]:
    """Inside, a server runs, and the environment names it and its credentials as a cluster's would; its URL."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", url),
        ):
            environment.setenv(name, value)
        yield url
    server.stop()


def another_pod() -> None:
    """From here on, this process has seen nothing of any bucket."""
    os.environ.pop(places.WORKING, None)


def here() -> list[str]:
    """What this pod has on its own disk: names of files below its working folder."""
    return sorted(file.name for file in places._working().rglob("*") if file.is_file())


def objects(url: str) -> dict[str, bytes]:
    """Every object below a URL, by its name there."""
    files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return {key[len(root) + 1 :]: files.cat_file(key) for key in files.find(root)}


def put(url: str, file: Path | bytes) -> None:
    """An object that somebody else wrote."""
    files, key = fsspec.core.url_to_fs(url)
    files.pipe_file(key, file if isinstance(file, bytes) else file.read_bytes())
