"""What a pod runs: some nodes of one pipeline, with parameters as one JSON object.

`python -m kedro_kfp.step --step NAME --pipeline NAME --nodes A,B --env ENV --params JSON [--item KEY TEXT] …`

Exit codes: 0 done; 1 a node failed, and another attempt may succeed; 2 the command cannot be carried out as it is
written (arguments, JSON, environment, pipeline, node, catalog), so that no attempt will; 3 the nodes ran, and a result
could not be handed to Kubeflow. The last lines of the log say which step, item and node failed, and why.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_kfp.errors import HandOverError, StepError
from kedro_kfp.parameters import merge_at, parse_object

if TYPE_CHECKING:
    from kedro.framework.session import KedroSession

DONE, NODE_FAILED, CANNOT_RUN, NOT_HANDED_OVER = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the step that the command line describes; the exit code."""
    given = _parser().parse_args(arguments)
    where = f"step {given.step!r}" + (f", {given.item[0]} {given.item[1]!r}" if given.item else "")
    try:
        return _run(given, where)
    except StepError as error:
        return _last_words(CANNOT_RUN, f"{where} cannot run: {error}")
    except HandOverError as error:
        return _last_words(NOT_HANDED_OVER, f"{where} ran, and could not hand over its results: {error}")


def _run(given: argparse.Namespace, where: str) -> int:
    from kedro_kfp.runner import StepRunner

    session = _session(given)
    runner = StepRunner()
    with session:
        _check_names(session, given)
        try:
            session.run(pipeline_names=[given.pipeline], node_names=given.nodes, runner=runner)
        except Exception as error:  # whatever a node raises ends the step, with the node's name
            sys.excepthook(type(error), error, error.__traceback__)
            why = f"{type(error).__name__}: {error}"
            if runner.at_work is None:
                raise StepError(f"no node was reached: {why}") from error
            return _last_words(NODE_FAILED, f"{where}, node {runner.at_work.name!r} failed: {why}")
        _hand_over(session, given)
    print(f"{where} is done: {', '.join(given.nodes)}")
    return DONE


def _session(given: argparse.Namespace) -> KedroSession:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    params = parse_object(given.params, "--params", StepError)
    for key, text in [*given.set, *([given.item] if given.item else [])]:
        merge_at(params, key, text, StepError)
    for key, text in given.set_json:
        merge_at(params, key, _json("--set-json", key, text), StepError)
    for key, choices, number in given.pick:
        merge_at(params, key, _picked(key, choices, number), StepError)
    try:
        bootstrap_project(given.project)
        return KedroSession.create(given.project, env=given.env, runtime_params=params)
    except (RuntimeError, ValueError) as error:
        raise StepError(f"the Kedro project in {given.project} does not load: {error}") from error


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


def _check_names(session: KedroSession, given: argparse.Namespace) -> None:
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
    catalog = session.load_context().catalog
    if given.list:
        dataset, path = given.list
        hand_over.write_list(catalog.load(dataset), dataset, Path(path))
    for dataset, path in given.text:
        hand_over.write_text(catalog.load(dataset), dataset, Path(path))
    shown = {
        artifact: hand_over.numbers(catalog.load(dataset), dataset, keep.split(","))
        for dataset, artifact, keep in given.metrics
    }
    if shown:
        hand_over.write_metrics(shown, given.executor_input)
    for name, dataset, key in given.objective:
        print(hand_over.objective_line(name, catalog.load(dataset), dataset, key))


def _last_words(code: int, message: str) -> int:
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kedro_kfp.step", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="the Kedro project; the working directory")
    parser.add_argument("--step", required=True, help="the step's name, for the log")
    parser.add_argument("--pipeline", required=True, help="a registered pipeline")
    parser.add_argument("--nodes", required=True, type=lambda text: text.split(","), help="its nodes to run")
    parser.add_argument("--env", required=True, help="the Kedro environment")
    parser.add_argument("--params", default="{}", help="parameters over the environment's, as a JSON object")
    parser.add_argument("--item", nargs=2, metavar=("KEY", "TEXT"), help="the parameter with this task's item")
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
