"""Parameters as one JSON object, from text or a file, and single values put into it by dotted key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro_kfp.errors import KedroKfpError, ParametersError


def read_params(text: str | None) -> dict[str, Any]:
    """What `--params` says: a JSON object, or the name of a file with one. `ParametersError` otherwise."""
    if text is None:
        return {}
    if text.lstrip().startswith("{"):
        return parse_object(text, "--params", ParametersError)
    file = Path(text)
    if not file.is_file():
        raise ParametersError(
            f"--params {text!r} is neither a JSON object nor a file. Next: write '{{\"key\": value}}', or name a file."
        )
    return parse_object(file.read_text(encoding="utf-8"), f"--params {text}", ParametersError)


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
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = laid_over(under, value) if both else value
    return merged


def value_at(params: Any, key: str) -> Any:
    """The value at a dotted key; `KeyError` where there is none."""
    for part in key.split("."):
        if not isinstance(params, dict) or part not in params:
            raise KeyError(key)
        params = params[part]
    return params
