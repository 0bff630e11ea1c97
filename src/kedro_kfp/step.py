"""What a pod runs: some nodes of one pipeline, with parameters as one JSON object.

`python -m kedro_kfp.step --step NAME --pipeline NAME --nodes A,B --env ENV --params JSON [--item KEY TEXT] …`

Exit codes: 0 done; 1 a node or a hook of the run failed, and another attempt may succeed; 2 the command cannot be
carried out as it is written (arguments, JSON, environment, pipeline, node, catalog, the project's own code), so that no
attempt will; 3 the nodes ran, and a result could not be handed to Kubeflow. The first line of the log is the command,
for another try at home; the last one says which step, item and node failed, and why.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_kfp.credentials import redacted
from kedro_kfp.errors import HandOverError, StepError, WorkError
from kedro_kfp.last_words import Task
from kedro_kfp.parameters import merge_at, parse_object

if TYPE_CHECKING:
    from kedro.framework.session import KedroSession

    from kedro_kfp.runner import StepRunner

DONE, NODE_FAILED, CANNOT_RUN, NOT_HANDED_OVER = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the step that the command line describes; the exit code."""
    given = _parser().parse_args(arguments)
    where = f"step {given.step!r}" + (f", {given.item[0]} {given.item[1]!r}" if given.item else "")
    print(f"{where} begins: {_command(given)}", flush=True)
    _leave(given)
    code, node, end = _run(given)
    said = redacted(" ".join(f"{where}{end}".split()))  # one line, whatever an error's message looks like
    if code == DONE:
        _leave(given, done=True)
        print(said)
        return DONE
    _leave(given, code, node, said)
    sys.stdout.flush()
    print(said, file=sys.stderr, flush=True)
    return code


def _run(given: argparse.Namespace) -> tuple[int, str | None, str]:
    """The exit code, the node that failed, and how the step ended, to be said after its name."""
    try:
        session = _session(given)
        with session:
            with _loading(given):
                _check_names(given)
            _work(session, given)
            _hand_over(session, given)
    except StepError as error:
        return CANNOT_RUN, None, f" cannot run: {error}"
    except WorkError as error:
        return NODE_FAILED, error.node, str(error)
    except HandOverError as error:
        return NOT_HANDED_OVER, None, f" ran, and could not hand over its results: {error}"
    return DONE, None, f" is done: {', '.join(given.nodes)}"


def _work(session: KedroSession, given: argparse.Namespace) -> None:
    from kedro_kfp.runner import StepRunner

    runner = StepRunner()
    session._hook_manager.register(runner)  # Kedro passes it on to a runner only after the run's first hooks
    try:
        session.run(pipeline_names=[given.pipeline], node_names=given.nodes, runner=runner)
    except (Exception, SystemExit) as error:  # whatever a node raises ends the step, with the node's name
        _show(error)
        raise _failure(runner, f"{type(error).__name__}: {error}") from error


def _failure(runner: StepRunner, why: str) -> StepError | WorkError:
    if runner.at_work is not None:
        return WorkError(f", node {runner.at_work.name!r} failed", why, runner.at_work.name)
    if runner.finished:
        return WorkError(" failed after its last node", why)
    if runner.begun and not runner.entered:
        return WorkError(" failed before its first node", why)
    return StepError(f"no node was reached: {why}")


def _session(given: argparse.Namespace) -> KedroSession:
    params = parse_object(given.params, "--params", StepError)
    for key, text in [*given.set, *([given.item] if given.item else [])]:
        merge_at(params, key, text, StepError)
    for key, text in given.set_json:
        merge_at(params, key, _json("--set-json", key, text), StepError)
    for key, choices, number in given.pick:
        merge_at(params, key, _picked(key, choices, number), StepError)
    with _loading(given):
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        bootstrap_project(given.project)
        session = KedroSession.create(given.project, env=given.env, runtime_params=params)
    return session


@contextmanager
def _loading(given: argparse.Namespace) -> Iterator[None]:
    """Whatever the project's own settings and registry raise is a project that does not load."""
    try:
        yield
    except StepError:
        raise
    except (Exception, SystemExit) as error:
        _show(error)
        why = f"{type(error).__name__}: {error}"
        raise StepError(f"the Kedro project in {given.project} does not load: {why}") from error


def _show(error: BaseException) -> None:
    sys.excepthook(type(error), error, error.__traceback__)


def _leave(given: argparse.Namespace, *failure: Any, done: bool = False) -> None:
    """What is left for the run's outcome; a help, and so no reason to fail."""
    if not given.outcome:
        return
    folder, run = given.outcome
    task = Task(folder, run, given.step, given.item[1] if given.item else None)
    try:
        if done:
            task.take_back()
        else:
            task.leave(*failure)
    except Exception as error:  # each store's client has its own errors
        why = f"{type(error).__name__}: {error}"
        print(f"nothing can be left for the run's outcome at {task.place} ({why})", file=sys.stderr, flush=True)


def _command(given: argparse.Namespace) -> str:
    """The command for another try elsewhere: without what is handed to Kubeflow, and without secrets."""
    flags = ["--step", given.step, "--pipeline", given.pipeline, "--nodes", ",".join(given.nodes), "--env", given.env]
    flags += ["--params", given.params]
    for flag in ("set", "set_json", "pick"):
        flags += [part for values in getattr(given, flag) for part in (f"--{flag.replace('_', '-')}", *values)]
    if given.item:
        flags += ["--item", *given.item]
    return "python -m kedro_kfp.step " + shlex.join(map(redacted, flags))


def _json(flag: str, key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise StepError(f"{flag} {key}: {text!r} is not JSON ({error})") from error


def _picked(key: str, text: str, number: str) -> Any:
    choices = _json("--pick", key, text)
    if not isinstance(choices, list) or not number.isdecimal() or int(number) >= len(choices):
        raise StepError(f"--pick {key}: there is no choice {number!r} in {text}")
    return choices[int(number)]


def _check_names(given: argparse.Namespace) -> None:
    from kedro.framework.project import pipelines, settings

    known_environments = sorted(folder.name for folder in Path(given.project, settings.CONF_SOURCE).glob("*/"))
    if given.env not in known_environments:
        raise StepError(f"--env {given.env!r}: there is no such environment; allowed are {known_environments}")
    if given.pipeline not in pipelines:
        raise StepError(f"--pipeline {given.pipeline!r} is unknown; allowed are {sorted(pipelines)}")
    known = {node.name for node in pipelines[given.pipeline].nodes}
    if unknown := sorted(set(given.nodes) - known):
        raise StepError(
            f"--nodes {unknown}: pipeline {given.pipeline!r} has no such nodes; allowed are {sorted(known)}. "
            "Next: compile the file again with the code that is in the image"
        )


def _hand_over(session: KedroSession, given: argparse.Namespace) -> None:
    from kedro_kfp import hand_over

    if not (given.list or given.text or given.metrics or given.objective):
        return
    with _reading("the catalog"):
        catalog = session.load_context().catalog

    def load(dataset: str) -> Any:
        with _reading(f"dataset {dataset!r}"):
            found = catalog.load(dataset)
        return found

    if given.list:
        dataset, path = given.list
        hand_over.write_list(load(dataset), dataset, Path(path))
    for dataset, path in given.text:
        hand_over.write_text(load(dataset), dataset, Path(path))
    shown = {
        artifact: hand_over.numbers(load(dataset), dataset, keep.split(","))
        for dataset, artifact, keep in given.metrics
    }
    if shown:
        hand_over.write_metrics(shown, given.executor_input)
    for name, dataset, key in given.objective:
        print(hand_over.objective_line(name, load(dataset), dataset, key))


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # each store's client has its own errors
        _show(error)
        raise HandOverError(f"{what} does not load: {type(error).__name__}: {error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kedro_kfp.step", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="the Kedro project; the working directory")
    parser.add_argument("--step", required=True, help="the step's name, for the log")
    parser.add_argument("--pipeline", required=True, help="a registered pipeline")
    parser.add_argument("--nodes", required=True, type=lambda text: text.split(","), help="its nodes to run")
    parser.add_argument("--env", required=True, help="the Kedro environment")
    parser.add_argument("--params", default="{}", help="parameters over the environment's, as a JSON object")
    parser.add_argument("--item", nargs=2, metavar=("KEY", "TEXT"), help="the parameter with this task's item")
    parser.add_argument("--outcome", nargs=2, metavar=("FOLDER", "RUN"), help="where the run's outcome is going to be")
    parser.add_argument("--list", nargs=2, metavar=("DATASET", "PATH"), help="a list to hand over for a fan-out")
    for flag, names, purpose in (
        ("--set", ("KEY", "TEXT"), "one more parameter (dotted), a text"),
        ("--set-json", ("KEY", "JSON"), "one more parameter (dotted), JSON"),
        ("--pick", ("KEY", "JSON", "NUMBER"), "one more parameter (dotted), a numbered choice of a JSON list"),
        ("--text", ("DATASET", "PATH"), "a text to show"),
        ("--metrics", ("DATASET", "ARTIFACT", "PATTERNS"), "numbers to show, by dotted name"),
        ("--objective", ("NAME", "DATASET", "KEY"), "a number to print for Katib"),
    ):
        parser.add_argument(flag, nargs=len(names), action="append", default=[], metavar=names, help=purpose)
    parser.add_argument("--executor-input", help="what Kubeflow knows of this task, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
