"""The validation page states counts that add up, escapes all text, and needs nothing from a network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
import pytest

from imprint.data.validation_page import page_css, quarantine_examples, render_validation
from imprint.schema import quarantine_schema


def check(name: str, failed: int, description: str = "Every row has one.") -> dict[str, Any]:
    column = name.split("(")[1].rstrip(")")
    counts = {"checked": 2000, "failed": failed, "share": failed / 2000}
    return {"check": name, "column": column, "description": description, **counts}


def result(**changes: Any) -> dict[str, Any]:
    plain = {
        "suite": "interactions",
        "suite_fingerprint": "0123456789abcdef",
        "settings": {"suite": "suite.json", "max_quarantined_share": 0.2, "min_rows_to_stop": 100},
        "rows_in": 2000,
        "rows_out": 1900,
        "rows_quarantined": 100,
        "batches": 3,
        "checks": [check("not_null(user_id)", 40), check("regex(response)", 90), check("unique(record_id)", 0)],
        "stopped": False,
    }
    return {**plain, **changes}


def example(checks: list[str] | None = None, **row: Any) -> dict[str, Any]:
    whole = {"query": "How are you?", "response": "Well.", "problem": None, **row}
    place = {"user_id": "u1", "record_id": "r1", "source": "talk.jsonl:7"}
    return {**place, "checks": checks or ["regex(response)"], "row": json.dumps(whole)}


def text_of(page: str) -> str:
    """The words of a page, without tags."""
    words: list[str] = []
    parser = HTMLParser()
    parser.handle_data = words.append  # type: ignore[method-assign]
    parser.feed(re.sub(r"<style>.*?</style>", "", page, flags=re.S))
    return re.sub(r"\s+", " ", " ".join(words))


def test_the_counts_are_an_equation() -> None:
    assert "2,000 rows in = 1,900 let through + 100 quarantined" in text_of(render_validation(result(), []))


def test_counts_that_do_not_add_up_are_said_not_to() -> None:
    page = text_of(render_validation(result(rows_out=1899), []))
    assert "2,000 rows in ≠ 1,899" in page
    assert "do not add up" in page
    assert "do not add up" not in text_of(render_validation(result(), []))


def test_refusing_checks_come_first_and_the_whole_suite_is_listed() -> None:
    page = text_of(render_validation(result(), []))
    why, suite = page.split("The suite in words")
    assert why.index("regex(response)") < why.index("not_null(user_id)")
    assert "unique(record_id)" not in why
    assert suite.index("user_id") < suite.index("response") < suite.index("record_id")
    assert "4.5 %" in why


def test_a_stopped_run_says_so() -> None:
    assert "Stopped. More was refused than the limit of 20.0 %" in text_of(render_validation(result(stopped=True), []))
    assert "Stopped" not in text_of(render_validation(result(), []))


def test_an_input_without_refusals_or_rows_has_a_page() -> None:
    page = render_validation(result(rows_in=0, rows_out=0, rows_quarantined=0, checks=[]), [])
    assert "Every row passed every check." in text_of(page)
    assert "Examples of refused rows" not in page


@pytest.mark.parametrize("where", ["query", "response", "source", "description", "problem"])
def test_text_is_escaped_wherever_it_comes_from(where: str) -> None:
    attack = "<script>alert('x')</script>"
    one = example(["null(problem)"], problem=attack) if where == "problem" else example(**{where: attack})
    one |= {"source": attack} if where == "source" else {}
    checks = [check("regex(response)", 3, attack if where == "description" else "Plain.")]
    page = render_validation(result(checks=checks), [one])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_long_texts_are_cut_and_hidden_characters_shown() -> None:
    page = render_validation(result(), [example(query="q" * 5000, response="a\x00b\u202ec\u00a0")])
    assert "q" * 79 + "…" in page
    assert "q" * 80 not in page
    assert r"a\x00b\u202ec\xa0" in page


def test_a_missing_text_and_an_unreadable_row_are_told() -> None:
    page = text_of(render_validation(result(), [example(["null(problem)"], query=None, problem="line is not JSON")]))
    assert "(none)" in page
    assert "null(problem): line is not JSON" in page


def test_the_page_asks_for_nothing_outside_itself() -> None:
    page = render_validation(result(), [example()])
    assert page_css() in page
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(|src=", page)


def test_a_small_share_is_not_shown_as_nothing() -> None:
    page = text_of(render_validation(result(rows_in=10**6, rows_out=10**6 - 1, rows_quarantined=1), []))
    assert "< 0.1 %" in page


def test_examples_show_every_check_however_rare() -> None:
    common = [example(["regex(response)"], response=str(n)) for n in range(50)]
    rows = [*common, example(["unique(record_id)"], response="rare"), *common]
    batches = [
        pa.RecordBatch.from_pylist(rows[start : start + 20], schema=quarantine_schema()) for start in (0, 20, 40, 60)
    ]
    chosen = quarantine_examples(batches, per_check=2)
    assert [json.loads(one["row"])["response"] for one in chosen] == ["0", "1", "rare"]
    assert len(quarantine_examples(batches, per_check=50, most=7)) == 7
