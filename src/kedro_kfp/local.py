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
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

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

    class StepProcess(handler):  # type: ignore[misc, valid-type]
        """A container's command as a process of this interpreter, in the project's folder."""

        running: ClassVar[set[subprocess.Popen[str]]] = set()

        def validate_image(self, image: str) -> None:
            """Any image: its command is run without it."""

        def validate_not_container_component(self, full_command: list[str]) -> None:
            """Any command."""

        def validate_not_containerized_python_component(self, full_command: list[str]) -> None:
            """Any command."""

        def run(self) -> Any:
            """Run the command; success by its exit code."""
            from kfp.local.status import Status

            program, *flags = self.full_command
            command = [sys.executable if program == "python3" else program, *flags]
            environment = {**os.environ, **self.env_vars}
            with subprocess.Popen(
                command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                self.running.add(process)
                for line in process.stdout or ():
                    shown(line, end="", flush=True)
            self.running.discard(process)
            return Status.SUCCESS if process.returncode == 0 else Status.FAILURE

    class Store(store):  # type: ignore[misc, valid-type]
        """kfp's store of values, in which a loop finds its items under whatever name they were written."""

        def get_parent_input(self, key: str) -> Any:
            """The pipeline's input of that name, or else the earlier task's output that it stands for."""
            try:
                return super().get_parent_input(key)
            except ValueError:
                return self._output_called(key.removeprefix(_CHANNEL))

        def _output_called(self, name: str) -> Any:
            for task, outputs in self._task_output_data.items():
                for output, value in outputs.items():
                    if f"{task}-{output}" == name:
                        return value
            raise ValueError(f"no input and no output is called {name!r}")

    subprocess_task_handler.SubprocessTaskHandler, io.IOStore = StepProcess, Store
    try:
        yield
    finally:
        for process in StepProcess.running:
            process.terminate()
        subprocess_task_handler.SubprocessTaskHandler, io.IOStore = handler, store
        builtins.print = shown  # kfp indents by replacing it, and threads that do so side by side leave it replaced
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
