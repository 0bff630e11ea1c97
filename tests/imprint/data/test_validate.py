"""Validation lets good rows through as they are, names every check a bad row failed, and stops past its limit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pydantic
import pytest

from imprint.data import validate
from imprint.data.atomic import read_manifest
from imprint.data.suite import FABRICATED, load_suite
from imprint.data.tables import read_batches
from imprint.data.validate import ValidateSettings, Validation, run_validation
from imprint.errors import QuarantineLimitError, RowsLostError, SettingsError, StoreError
from imprint.schema import ingested_schema, interactions_schema

SUITE = load_suite(Path(__file__).parents[3] / "conf" / "base" / "expectations" / "interactions.json")
SECRET = "zanzibar"  # in every bad text: must never show in a result

NULL, NOT_NULL = "expect_column_values_to_be_null", "expect_column_values_to_not_be_null"
MATCH, NOT_MATCH = "expect_column_values_to_match_regex", "expect_column_values_to_not_match_regex"
LENGTH, UNIQUE = "expect_column_value_lengths_to_be_between", "expect_column_values_to_be_unique"
BETWEEN, IN_SET = "expect_column_values_to_be_between", "expect_column_values_to_be_in_set"

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unreadable": (
        {"problem": "line is not JSON", "user_id": None, "response": None, "query": None, "task": None},
        [
            f"{NULL}(problem)",
            f"{NOT_NULL}(user_id)",
            f"{NOT_NULL}(task)",
            f"{NOT_NULL}(query)",
            f"{NOT_NULL}(response)",
        ],
    ),
    "no user": ({"user_id": None}, [f"{NOT_NULL}(user_id)"]),
    "raw id": ({"user_id": SECRET}, [f"{MATCH}(user_id)"]),
    "no record id": ({"record_id": None}, [f"{NOT_NULL}(record_id)"]),
    "twice": ({"record_id": "same"}, [f"{UNIQUE}(record_id)"]),
    "twice again": ({"record_id": "same"}, [f"{UNIQUE}(record_id)"]),
    "unknown task": ({"task": SECRET}, [f"{IN_SET}(task)"]),
    "no response": ({"response": None}, [f"{NOT_NULL}(response)"]),
    "empty response": ({"response": ""}, [f"{MATCH}(response)"]),
    "blank response": ({"response": " \t\n"}, [f"{MATCH}(response)"]),
    "invisible response": ({"response": "\u00a0\u200b\ufeff"}, [f"{MATCH}(response)"]),
    "1 MB response": ({"response": f"{SECRET} " * 120_000}, [f"{LENGTH}(response)"]),
    "1 MB query": ({"query": f"{SECRET} " * 120_000}, [f"{LENGTH}(query)"]),
    "no query": ({"query": None}, [f"{NOT_NULL}(query)"]),
    "colour code": ({"response": f"\x0304{SECRET}"}, [f"{NOT_MATCH}(response)"]),
    "NUL": ({"query": f"{SECRET}\x00"}, [f"{NOT_MATCH}(query)"]),
    "C1": ({"query": f"{SECRET}\x92"}, [f"{NOT_MATCH}(query)"]),
    "future": ({"time": 4_102_444_800_000_000}, [f"{BETWEEN}(time)"]),
    "past the year 9999": ({"time": 9_000_000_000_000_000_00}, [f"{BETWEEN}(time)"]),
    "before 1970": ({"time": -1_000_000}, [f"{BETWEEN}(time)"]),
    "negative order": ({"order": -1}, [f"{BETWEEN}(order)"]),
    "two at once": ({"user_id": None, "response": f"\x07{SECRET}"}, [f"{NOT_NULL}(user_id)", f"{NOT_MATCH}(response)"]),
}
GOOD: dict[str, dict[str, Any]] = {
    "plain": {},
    "no time": {"time": None},
    "empty query": {"query": ""},
    "tab, newline, return": {"response": "one\ttwo\r\nthree"},
    "other scripts": {"response": "Ça va ? 谢谢 🌱"},
    "longest": {"response": "x" * 20_000},
    "later order, earlier time": {"order": 900, "time": 5_000_000},
    "null persona": {"persona": None, "attributes": None},
}


def row(number: int, **changes: Any) -> dict[str, Any]:
    plain = {**FABRICATED, "record_id": f"r{number}", "order": number, "time": 1_600_000_000_000_000 + number}
    return {**plain, "source": f"talk.jsonl:{number + 1}", **changes}


def table(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=ingested_schema())


def good_and_bad(good: int, bad: int) -> list[dict[str, Any]]:
    """The bad rows first, as where rows without a user are sorted to the front."""
    return [row(number, user_id=None if number < bad else FABRICATED["user_id"]) for number in range(good + bad)]


def run(batches: Any, where: Path, suite: dict[str, Any] = SUITE, expected: int | None = None, **settings: Any) -> Any:
    return run_validation(
        batches,
        suite,
        ValidateSettings(**settings),
        clean=where / "clean",
        quarantine=where / "quarantine",
        expected_rows=expected,
    )


def one_check(**kwargs: Any) -> dict[str, Any]:
    return {"name": "small", "expectations": [{"type": NOT_NULL, "kwargs": kwargs, "notes": "Is there."}]}


USERS = one_check(column="user_id")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every good and every bad row in one run; the folder of its tables and the result."""
    where = tmp_path_factory.mktemp("validation")
    changes = [*GOOD.values(), *(change for change, _ in BAD.values())]
    rows = [row(number, **change) for number, change in enumerate(changes)]
    return where, run([table(rows)], where, max_quarantined_share=1.0)


@pytest.fixture(scope="module")
def quarantined(outcome: Any) -> dict[str, dict[str, Any]]:
    found = [one for batch in read_batches(outcome[0] / "quarantine") for one in batch.to_pylist()]
    return dict(zip(BAD, found, strict=True))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_quarantined_with_every_check_it_failed(quarantined: Any, name: str) -> None:
    assert quarantined[name]["checks"] == BAD[name][1]


def test_the_quarantined_row_is_kept_whole(quarantined: Any) -> None:
    whole = json.loads(quarantined["1 MB response"]["row"])
    assert whole["response"] == BAD["1 MB response"][0]["response"]
    assert quarantined["unreadable"]["source"].startswith("talk.jsonl:")
    assert json.loads(quarantined["unreadable"]["row"])["problem"] == "line is not JSON"


def test_good_rows_pass_unchanged_and_in_place(outcome: Any) -> None:
    batches = list(read_batches(outcome[0] / "clean"))
    assert all(batch.schema.equals(interactions_schema()) for batch in batches)
    expected = table([row(number, **change) for number, change in enumerate(GOOD.values())])
    assert pa.Table.from_batches(batches).to_pylist() == expected.select(interactions_schema().names).to_pylist()


def test_the_counts_add_up(outcome: Any) -> None:
    _, result = outcome
    assert (result["rows_in"], result["rows_out"], result["rows_quarantined"]) == (
        len(GOOD) + len(BAD),
        len(GOOD),
        len(BAD),
    )
    checks = {check["check"]: check for check in result["checks"]}
    assert checks[f"{NOT_NULL}(user_id)"]["failed"] == 3
    assert checks[f"{NOT_NULL}(user_id)"]["checked"] == result["rows_in"]
    assert checks[f"{MATCH}(user_id)"]["checked"] == result["rows_in"] - 3  # a null is not looked at
    assert checks[f"{MATCH}(user_id)"]["share"] == pytest.approx(1 / (result["rows_in"] - 3))
    assert result["stopped"] is False


def test_no_value_of_a_row_enters_the_result(outcome: Any) -> None:
    where, result = outcome
    assert SECRET not in json.dumps(result)
    assert SECRET not in (where / "quarantine" / "manifest.json").read_text()


def test_batches_do_not_see_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One context serves all batches, and the second gets its own verdicts, not the first one's."""
    monkeypatch.setattr(validate, "GROUP_ROWS", 2)
    batches = [table([row(0), row(1, query=None)]), table([row(2, response=None), row(3)]), table([row(4), row(5)])]
    result = run(batches, tmp_path)
    found = [one for batch in read_batches(tmp_path / "quarantine") for one in batch.to_pylist()]
    assert [(one["record_id"], one["checks"]) for one in found] == [
        ("r1", [f"{NOT_NULL}(query)"]),
        ("r2", [f"{NOT_NULL}(response)"]),
    ]
    assert result["batches"] == 3
    assert [batch.num_rows for batch in read_batches(tmp_path / "clean")] == [1, 1, 2]


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run([table([row(0), row(1, query=None)])], tmp_path, one_check(column="query"), max_quarantined_share=1.0)
    assert capfd.readouterr() == ("", "")


def test_an_empty_input_makes_empty_tables(tmp_path: Path) -> None:
    assert run([], tmp_path)["rows_in"] == 0
    assert read_batches(tmp_path / "clean").rows == 0


def test_past_the_limit_the_run_stops_and_the_quarantine_stays(tmp_path: Path) -> None:
    with pytest.raises(QuarantineLimitError) as stop:
        run([table(good_and_bad(70, 30))], tmp_path, USERS)
    for part in ("30 of 100", "30.0%", "=0.2", f"{NOT_NULL}(user_id): 30", str(tmp_path / "quarantine"), "or raise"):
        assert part in str(stop.value)
    assert not (tmp_path / "clean").exists()
    assert read_batches(tmp_path / "quarantine").rows == 30
    noted = (read_manifest(tmp_path / "quarantine") or {})["validation"]
    assert noted["stopped"] is True
    assert noted["rows_quarantined"] == 30


def test_a_limit_raised_or_a_small_input_does_not_stop(tmp_path: Path) -> None:
    assert run([table(good_and_bad(70, 30))], tmp_path, USERS, max_quarantined_share=0.3)["rows_out"] == 70
    assert run([table(good_and_bad(60, 39))], tmp_path, USERS)["rows_out"] == 60


def test_refusals_gathered_in_one_batch_do_not_stop_a_good_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows without a user sort to the front; the limit is on the input's share, not on that of its first batch."""
    monkeypatch.setattr(validate, "GROUP_ROWS", 300)
    rows = table(good_and_bad(900, 100))
    batches = [rows.slice(start, 100) for start in range(0, 1000, 100)]
    assert run(batches, tmp_path, USERS, expected=1000)["rows_quarantined"] == 100


def test_everything_quarantined_stops_even_a_small_input(tmp_path: Path) -> None:
    with pytest.raises(QuarantineLimitError, match="3 of 3"):
        run([table(good_and_bad(0, 3))], tmp_path, USERS)


def test_with_the_rows_expected_it_stops_as_soon_as_it_is_sure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "GROUP_ROWS", 100)
    asked = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal asked
        for _ in range(10):
            asked += 1
            yield table(good_and_bad(0, 100))

    with pytest.raises(QuarantineLimitError, match="300 of 300"):
        run(stream(), tmp_path, USERS, expected=1000)
    assert asked == 3


def test_a_lost_row_is_an_error_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = validate._quarantined
    monkeypatch.setattr(validate, "_quarantined", lambda *arguments: whole(*arguments).slice(1))
    with pytest.raises(RowsLostError, match="12 rows in, but 10 out"):
        run([table(good_and_bad(10, 2))], tmp_path, USERS)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_another_version_is_refused() -> None:
    other = table([row(0)]).drop_columns(["problem"])
    validation = Validation([other], one_check(column="user_id"), ValidateSettings(), refuse=lambda batch: None)
    with pytest.raises(StoreError, match="problem"):
        list(validation.clean())


def test_an_exception_on_data_is_an_error_without_the_value() -> None:
    """Text cannot be compared with a number: no verdict on the row, and its words are not quoted."""
    between = {"type": BETWEEN, "kwargs": {"column": "problem", "min_value": 0}, "notes": "x"}
    rows = table([row(0, problem=SECRET)])
    validation = Validation([rows], {"name": "s", "expectations": [between]}, ValidateSettings(), lambda batch: None)
    with pytest.raises(SettingsError, match="raised an exception") as error:
        list(validation.clean())
    assert SECRET not in str(error.value)


def test_checks_of_one_kind_have_names_of_their_own(tmp_path: Path) -> None:
    kinds = [{"type": MATCH, "kwargs": {"column": "response", "regex": regex}, "notes": "x"} for regex in ("Y", "N")]
    result = run(
        [table([row(0), row(1, response="No.")])],
        tmp_path,
        {"name": "s", "expectations": kinds},
        max_quarantined_share=1,
    )
    assert [(check["check"], check["failed"]) for check in result["checks"]] == [
        (f"{MATCH}(response)", 1),
        (f"{MATCH}(response)#2", 1),
    ]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"max_quarantined_share": 1.2}, "max_quarantined_share"),
        ({"max_quarantined_share": -0.1}, "max_quarantined_share"),
        ({"min_rows_to_stop": 0}, "min_rows_to_stop"),
        ({"max_quarantine_share": 0.2}, "max_quarantine_share"),
        ({"suite": ""}, "suite"),
    ],
)
def test_settings_out_of_range_or_unknown_are_refused(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=field):
        ValidateSettings(**settings)
