"""A suite that cannot do its work is refused as a setting, before any row is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from imprint.data.suite import load_suite
from imprint.data.validate import ValidateSettings, Validation
from imprint.errors import SettingsError
from imprint.tasks import TASKS

SHIPPED = Path(__file__).parents[3] / "conf" / "base" / "expectations" / "interactions.json"
NOT_NULL, MATCH = "expect_column_values_to_not_be_null", "expect_column_values_to_match_regex"
LENGTH, BETWEEN = "expect_column_value_lengths_to_be_between", "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"


def test_the_shipped_suite_explains_each_check_and_knows_all_tasks() -> None:
    suite = load_suite(SHIPPED)
    assert all(check["notes"].endswith((".", ").")) for check in suite["expectations"])
    sets = [check["kwargs"]["value_set"] for check in suite["expectations"] if check["type"] == IN_SET]
    assert sets == [list(TASKS)]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"type": "expect_everything", "kwargs": {"column": "query"}, "notes": "x"}, "expect_everything"),
        ({"type": LENGTH, "kwargs": {"column": "query", "longest": 3}, "notes": "x"}, "longest"),
        ({"type": NOT_NULL, "kwargs": {"column": "nick"}, "notes": "x"}, "allowed are user_id"),
        ({"type": NOT_NULL, "kwargs": {"column": "query"}}, "notes"),
        ({"type": NOT_NULL, "kwargs": {"column": "query", "mostly": 0.9}, "notes": "x"}, "max_quarantined_share"),
        ({"type": "expect_column_max_to_be_between", "kwargs": {"column": "order"}, "notes": "x"}, "single rows"),
        ({"type": MATCH, "kwargs": {"column": "query", "regex": "("}, "notes": "x"}, "raised an exception"),
        ({"type": BETWEEN, "kwargs": {"column": "query", "min_value": 0}, "notes": "x"}, "raised an exception"),
        ("expect", "needs the keys"),
    ],
)
def test_a_broken_suite_is_a_settings_error_before_any_row_is_read(config: Any, says: str) -> None:
    def untouched() -> Iterator[pa.RecordBatch]:
        pytest.fail("data was read")
        yield

    with pytest.raises(SettingsError, match=says):
        Validation(untouched(), {"name": "s", "expectations": [config]}, ValidateSettings(), lambda batch: None)


@pytest.mark.parametrize("suite", [{}, {"name": "s"}, {"name": "s", "expectations": []}, {"expectations": [{}]}])
def test_a_suite_without_name_or_expectations_is_refused(suite: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="one or more"):
        Validation([], suite, ValidateSettings(), lambda batch: None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "name"),
        ('{"name": "s", "expectations": []}', "one or more"),
    ],
)
def test_a_suite_file_that_is_none_is_refused(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "suite.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_suite(file)
