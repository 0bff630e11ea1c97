"""Suites: the checks of a validation as reviewed JSON, read and checked before anything runs.

A suite is `{"name", "expectations": [{"type", "kwargs": {"column", …}, "notes"}, …]}`, Great Expectations' own form;
`notes` is the check in one sentence for a person. The catalog (`interaction_expectations`) says where the file is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imprint.errors import SettingsError
from imprint.schema import ingested_schema

FABRICATED = {
    "user_id": "u" + "0" * 16,
    "record_id": "r" + "0" * 16,
    "corpus": "fabricated",
    "task": "dialogue",
    "time": 0,
    "order": 0,
    "query": "And?",
    "response": "Yes.",
    "persona": [],
    "attributes": [],
    "source": "fabricated:1",
    "problem": None,
}
"""A row with no person behind it, on which a suite is tried."""


def load_suite(path: Path) -> dict[str, Any]:
    """Read a suite. Raises `SettingsError` where the file is absent, not JSON, or has no name or no expectations."""
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"expectation suite: {path} cannot be read ({error.strerror}). Next: correct the path."
        ) from error
    except ValueError as error:
        raise SettingsError(f"expectation suite: {path} is not JSON ({error}). Next: correct the file.") from error
    _require_shape(suite, str(path))
    loaded: dict[str, Any] = suite
    return loaded


def _require_shape(suite: Any, where: str) -> None:
    listed = suite.get("expectations") if isinstance(suite, Mapping) and suite.get("name") else None
    if not isinstance(listed, list) or not listed:
        raise SettingsError(
            f'expectation suite: {where} must be {{"name": …, "expectations": [one or more]}}. Next: correct the file.'
        )


def checked_configs(suite: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The suite's expectations, each with its number in `meta`. Raises `SettingsError` naming the one that is wrong."""
    _require_shape(suite, "the suite")
    return [_checked_config(number, config) for number, config in enumerate(suite["expectations"])]


def _checked_config(number: int, config: Any) -> dict[str, Any]:
    where = f"expectation suite: expectation {number + 1}"
    if not isinstance(config, dict) or not {"type", "kwargs", "notes"} <= config.keys():
        raise SettingsError(f"{where} needs the keys type, kwargs and notes (one sentence for the auditor).")
    kwargs = config["kwargs"]
    allowed = ingested_schema().names
    if not isinstance(kwargs, dict) or kwargs.get("column") not in allowed:
        column = kwargs.get("column") if isinstance(kwargs, dict) else None
        raise SettingsError(f"{where} ({config['type']}) checks column {column!r}; allowed are {', '.join(allowed)}.")
    if kwargs.get("mostly", 1) != 1:
        raise SettingsError(
            f"{where} ({config['type']}) has mostly={kwargs['mostly']}; a row that fails is quarantined whatever the "
            "others do. Next: remove `mostly`, and set validate.max_quarantined_share to the share you can bear."
        )
    return {**config, "meta": {**config.get("meta", {}), "check": number}}


def check_names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """`type(column)`, and from its second use on with a number, so that a name means one check."""
    uses: Counter[str] = Counter()
    names = []
    for config in configs:
        plain = f"{config['type']}({config['kwargs']['column']})"
        uses[plain] += 1
        names.append(plain if uses[plain] == 1 else f"{plain}#{uses[plain]}")
    return names
