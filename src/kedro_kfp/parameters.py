"""Parameters as one JSON object, from text or a file, and single values put into it by dotted key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro_kfp.credentials import passwords, redacted
from kedro_kfp.errors import KedroKfpError, ParametersError


def read_params(text: str | None) -> dict[str, Any]:
    """What `--params` says: a JSON object, or the name of a file with one.

    `ParametersError` otherwise, and for a URL with a password: the parameters of a run are shown to everybody.
    """
    if text is None:
        return {}
    if text.lstrip().startswith("{"):
        read = parse_object(text, "--params", ParametersError)
    elif Path(text).is_file():
        read = parse_object(Path(text).read_text(encoding="utf-8"), f"--params {text}", ParametersError)
    else:
        raise ParametersError(
            f"--params {redacted(text)!r} is neither a JSON object nor a file. "
            "Next: write '{\"key\": value}', or name a file."
        )
    for key in passwords(read):
        raise ParametersError(
            f"--params: {key} holds a URL with a user and a password, which Kubeflow would show to everybody. "
            "Next: leave them out, and name a Kubernetes secret under `secrets` in kubeflow.yml."
        )
    return read


def parse_object(text: str, flag: str, error: type[KedroKfpError]) -> dict[str, Any]:
    """The JSON object in `text`; `error` for anything else."""
    try:
        read = json.loads(text)
    except ValueError as cause:
        raise error(f"{flag} is not JSON: {cause}. Next: give one JSON object") from cause
    if not isinstance(read, dict):
        raise error(f"{flag} is a JSON {type(read).__name__}; allowed is an object. Next: write '{{\"key\": value}}'")
    return read


def merge_at(params: dict[str, Any], key: str, value: Any, error: type[KedroKfpError]) -> None:
    """Put `value` at a dotted key; `error` where something that is no object is in the way."""
    *above, last = key.split(".")
    for part in above:
        params = params.setdefault(part, {})
        if not isinstance(params, dict):
            raise error(f"parameter {key!r}: {part!r} holds {params!r}, which is no object, in --params")
    params[last] = value


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """What `above` says, and for the rest what `below` says; objects key by key, anything else whole."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(value, Mapping) and isinstance(under, Mapping):
            value = laid_over(under, value)  # noqa: PLW2901 (what stands there in the end)
        merged[key] = value
    return merged


def value_at(params: Any, key: str) -> Any:
    """The value at a dotted key; `KeyError` where there is none."""
    for part in key.split("."):
        if not isinstance(params, dict) or part not in params:
            raise KeyError(key)
        params = params[part]
    return params
