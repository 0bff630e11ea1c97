"""Commands of Kedro, each in a process of its own, forked from one that has imported what every run imports.

Imports are most of the time of a small run. Nothing of this project and nothing of Kedro is imported beforehand: what
they read when they are imported (the folder they are in, the environment) is the command's own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

IMPORTED = (
    "great_expectations",
    "hyperopt",
    "kfp.local",
    "numba",
    "pandas",
    "peft",
    "plotly.graph_objects",
    "pyarrow.dataset",
    "scipy.stats",
    "sklearn.cluster",
    "torch",
    "transformers.models.llama.modeling_llama",
)


@cache
def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


class Command:
    """`kedro ARGUMENTS` at work in `folder`, in a process group of its own."""

    def __init__(self, folder: Path, *arguments: str, paths: Sequence[str] = (), **environment: str) -> None:
        """Start it; `paths` come first on its `sys.path`, `environment` lies over this process's own."""
        self._printed = tempfile.TemporaryDirectory()
        self._files = [Path(self._printed.name, name) for name in ("stdout", "stderr")]
        known, streams = {**os.environ, **environment}, [str(file) for file in self._files]
        given = str(folder), list(arguments), streams, known, list(paths)
        self._process: BaseProcess = _server().Process(target=_kedro, args=given)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process, and its group."""
        return self._process.pid  # type: ignore[return-value]

    def poll(self) -> int | None:
        """Its exit code, or None while it is at work."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL to it and to all that it started."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> subprocess.CompletedProcess[str]:
        """What became of it."""
        self._process.join()
        out, err = (file.read_text() for file in self._files)
        self._printed.cleanup()
        return subprocess.CompletedProcess(["kedro"], self._process.exitcode, out, err)  # type: ignore[arg-type]


def _kedro(
    folder: str, arguments: list[str], streams: list[str], environment: dict[str, str], paths: list[str]
) -> None:
    os.setsid()
    for number, (file, name) in enumerate(zip(streams, ("stdout", "stderr"), strict=True), start=1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
        setattr(sys, name, os.fdopen(number, "w", closefd=False))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv, sys.path[:0] = ["kedro", *arguments], paths
    from kedro.framework.cli.cli import main

    main()
