"""Run a compiled file on this machine: kfp's own local orchestrator, with steps as processes instead of containers.

kfp 2.17's subprocess runner refuses container components, and looks for a loop's items only under an output that is
called `Output`, a name which container components cannot give. Both classes are replaced while a file runs, and nothing
else: order, loops, retries, placeholders and the exit handler are kfp's.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from kedro_kfp.compiled import read_compiled
from kedro_kfp.errors import RunError
from kedro_kfp.extra import kfp_module

_CHANNEL = "pipelinechannel--"


def run_locally(file: Path, project: Path, arguments: Mapping[str, str]) -> None:
    """Run every task of the compiled `file` in the folder `project`. `RunError` names the tasks that failed.

    `arguments` are the pipeline's inputs (`params`, `env`) where they differ from the file's own. What tasks hand to
    Kubeflow lies under build/kubeflow-local in the project.
    """
    local = kfp_module("kfp.local", "running a compiled file")
    components = kfp_module("kfp.components", "running a compiled file")
    read_compiled(file)
    with _steps_as_processes(project), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that CPU and memory have no effect here
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(project / "build/kubeflow-local"))
        try:
            components.load_component_from_file(str(file))(**arguments)
        except RuntimeError as error:
            raise RunError(f"{error} Next: read the step's own last line above.") from error


@contextlib.contextmanager
def _steps_as_processes(project: Path) -> Iterator[None]:
    from kfp.local import io, subprocess_task_handler

    handler, store = subprocess_task_handler.SubprocessTaskHandler, io.IOStore
    shown, level, handlers = builtins.print, logging.getLogger().level, logging.getLogger().handlers[:]
    crew = _Crew(project, shown)
    subprocess_task_handler.SubprocessTaskHandler, io.IOStore = _process_handler(handler, crew), _store(store)
    before = signal.signal(signal.SIGTERM, crew.stop)
    try:
        yield
    finally:
        crew.end()
        signal.signal(signal.SIGTERM, before)
        subprocess_task_handler.SubprocessTaskHandler, io.IOStore = handler, store
        builtins.print = shown  # kfp indents by replacing it, and threads that do so side by side leave it replaced
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)


class _Crew:
    """The processes of one run. When the run is told to stop, so are they, and none begins."""

    def __init__(self, project: Path, show: Callable[..., None]) -> None:
        self._project, self._show = project, show
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> bool:
        """Run a container's command to its end with this interpreter, showing what it says. Whether it succeeded."""
        if self._stopped:
            return False
        program, *flags = command
        process = subprocess.Popen(
            [sys.executable if program == "python3" else program, *flags],
            cwd=self._project,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            self._running.add(process)
            for line in process.stdout or ():
                self._show(line, end="", flush=True)
        self._running.discard(process)
        return process.returncode == 0

    def end(self) -> None:
        """Begin no more processes, and end those at work."""
        self._stopped = True
        for process in tuple(self._running):
            process.terminate()

    def stop(self, number: int, _: FrameType | None) -> None:
        """A signal's handler: a run that is gone leaves nobody behind who writes."""
        self.end()
        raise SystemExit(128 + number)


def _process_handler(base: type, crew: _Crew) -> type:
    """Kfp's handler of one task, for any image and any command."""
    from kfp.local.status import Status

    def accept(*_: Any) -> None:
        """Kfp would refuse images and commands that are not its own."""

    def run(task: Any) -> Any:
        return Status.SUCCESS if crew.run(task.full_command, task.env_vars) else Status.FAILURE

    checks = ("validate_image", "validate_not_container_component", "validate_not_containerized_python_component")
    return type("StepProcess", (base,), {**dict.fromkeys(checks, accept), "run": run})


def _store(base: Any) -> type:
    class Store(base):  # type: ignore[misc]
        """kfp's store of values, in which a loop finds its items under whatever name they were written."""

        def get_parent_input(self, key: str) -> Any:
            """The pipeline's input of that name, or else the earlier task's output that it stands for."""
            try:
                return super().get_parent_input(key)
            except ValueError:
                for task, outputs in self._task_output_data.items():
                    for output, value in outputs.items():
                        if f"{_CHANNEL}{task}-{output}" in (key, f"{_CHANNEL}{key}"):
                            return value
                raise

    return Store
