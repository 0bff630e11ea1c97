"""A step's results in the forms that Kubeflow takes: a list to fan out over, texts, numbers, a line for Katib."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kedro_kfp.errors import HandOverError
from kedro_kfp.parameters import value_at


def write_list(items: Any, dataset: str, path: Path) -> None:
    """The list for a fan-out. `HandOverError` unless it is a list of different texts."""
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise HandOverError(f"dataset {dataset!r} must be a list of texts, and is {_short(items)}")
    if len(set(items)) < len(items):
        raise HandOverError(
            f"dataset {dataset!r} names an item twice, and two tasks would write one place: {_short(items)}"
        )
    _write(path, json.dumps(items))


def write_text(text: Any, dataset: str, path: Path) -> None:
    """A page for Kubeflow to show. `HandOverError` unless it is text."""
    if not isinstance(text, str):
        raise HandOverError(f"dataset {dataset!r} must be text to be shown, and is {_short(text)}")
    _write(path, text)


def numbers(tree: Any, dataset: str, keep: Sequence[str]) -> dict[str, float]:
    """The finite numbers of a nested dictionary whose dotted names match a pattern, in the order of their names."""
    if not isinstance(tree, Mapping):
        raise HandOverError(f"dataset {dataset!r} must be a dictionary of numbers, and is {_short(tree)}")
    found = {name: value for name, value in _leaves(tree, "") if any(fnmatchcase(name, pattern) for pattern in keep)}
    if not found:
        raise HandOverError(f"dataset {dataset!r} has no number under the names {list(keep)}")
    return dict(sorted(found.items()))


def write_metrics(shown: Mapping[str, Mapping[str, float]], executor_input: str | None) -> None:
    """Numbers as the metadata of Metrics artifacts, in the file that Kubeflow's launcher reads afterwards."""
    if executor_input is None:
        raise HandOverError("metrics need --executor-input, which tells where Kubeflow wants them")
    try:
        outputs = json.loads(executor_input)["outputs"]
        artifacts = {
            name: {"artifacts": [{**outputs["artifacts"][name]["artifacts"][0], "metadata": dict(values)}]}
            for name, values in shown.items()
        }
    except (ValueError, LookupError, TypeError) as error:
        raise HandOverError(f"--executor-input has no place for {sorted(shown)} ({error!r})") from error
    _write(Path(outputs["outputFile"]), json.dumps({"artifacts": artifacts}))


def objective_line(name: str, tree: Any, dataset: str, key: str) -> str:
    """`NAME=VALUE`, the line that Katib's collector reads. `HandOverError` unless it is a finite number."""
    try:
        value = value_at(tree, key)
    except KeyError as error:
        raise HandOverError(f"dataset {dataset!r} has no {key!r}, which Katib wants as {name!r}") from error
    if not _is_number(value):
        raise HandOverError(f"dataset {dataset!r}: {key!r} must be a finite number for Katib, and is {_short(value)}")
    return f"{name}={value}"


def _leaves(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        elif _is_number(value):
            yield f"{above}{key}", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HandOverError(f"{path} could not be written ({type(error).__name__}: {error})") from error


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:80]}{'…' if len(text) > 80 else ''}"
