"""AmazonQA joined with reviews, invented: answers by author, reviews of those who answered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from corpus_rows import names_of, rows_of, written

from imprint.errors import CorpusError

SEVERAL = {
    "asin": "B1",
    "questions": [
        {
            "questionText": "Does it fly?",
            "answers": [
                {"answererID": "A1", "answerText": "It does &amp; well.", "answerTime": "January 5, 2014"},
                {"answererID": "A2", "answerText": "No.", "answerTime": "sometime"},
            ],
        },
        {"questionText": "Is it red?", "answers": [{"answerText": "Yes.", "answerTime": "Jan 6, 2014"}]},
    ],
}
ONE = {"asin": "B1", "question": "Does it fly?", "answer": "Yes.", "unixTime": 1398902400, "answerTime": "May 1, 2014"}
REVIEW = {"reviewerID": "A1", "asin": "B2", "overall": 5.0, "reviewText": "Red and fast.", "unixReviewTime": 1388534400}


@pytest.fixture
def folder(tmp_path):
    """Two answers with authors, one without; reviews of somebody who answered and of somebody who did not."""
    written(tmp_path / "QA_Toys.json.gz", repr(SEVERAL) + "\n")
    written(tmp_path / "meta_Toys.json", [{"asin": "B1", "title": "Red kite"}])
    named = {"reviewerName": "Wren Kitely"}
    reviews = [REVIEW | named, REVIEW | {"reviewerID": "A9"}]
    return written(tmp_path / "Toys_5.json", reviews)


def test_answers_are_joined_with_what_their_authors_wrote_about_products(folder):
    """The review is the earlier interaction; strangers' reviews are counted and left out."""
    rows, counts = rows_of("amazon_qa", folder)
    assert [(row["user"], row["task"], row["query"], row["response"]) for row in rows] == [
        ("A1", "answer", "Red kite: Does it fly?", "It does & well."),
        ("A2", "answer", "Red kite: Does it fly?", "No."),
        (None, "answer", "Red kite: Is it red?", "Yes."),
        ("A1", "review", "Write a review of a product: 5 of 5 stars.", "Red and fast."),
    ]
    days = [row["time"] and row["time"].date().isoformat() for row in rows]
    assert days == ["2014-01-05", None, "2014-01-06", "2014-01-01"]
    assert counts == {
        "read": 5, "answers": 2, "answers without author": 1, "reviews": 1, "reviews of people who answered nothing": 1,
    }  # fmt: skip
    assert names_of("amazon_qa", folder) == ["Wren Kitely"]


def test_lines_in_json_and_without_reviews_are_read_too(tmp_path):
    """Not everybody keeps the Python literals, or fetches the reviews."""
    written(tmp_path / "qa_Toys.json", [SEVERAL, ONE])
    rows, _ = rows_of("amazon_qa", tmp_path)
    assert [row["response"] for row in rows] == ["It does & well.", "No.", "Yes.", "Yes."]
    assert rows[-1]["time"] == datetime(2014, 5, 1, tzinfo=UTC)


def test_two_answers_of_one_person_on_one_line_are_two_records(tmp_path):
    """A product's questions share a line; equal ids would both be refused later."""
    answer = {"answererID": "A1", "answerText": "Yes.", "answerTime": "May 1, 2014"}
    questions = [{"questionText": asked, "answers": [answer]} for asked in ("Red?", "Fast?")]
    written(tmp_path / "QA_Toys.json", [{"asin": "B1", "questions": questions}])
    assert len({row["source_id"] for row in rows_of("amazon_qa", tmp_path)[0]}) == 2


def test_files_without_authors_are_refused(tmp_path):
    """Every row would be nobody's."""
    written(tmp_path / "qa_Toys.json", [ONE])
    with pytest.raises(CorpusError, match="says who wrote it"):
        rows_of("amazon_qa", tmp_path)


def test_nothing_in_a_line_is_executed(tmp_path):
    """A literal is data; an expression is a broken line."""
    touched = tmp_path / "touched"
    written(tmp_path / "QA_Toys.json", repr(SEVERAL) + f"\n__import__('pathlib').Path({str(touched)!r}).touch()\n")
    rows, counts = rows_of("amazon_qa", tmp_path)
    assert rows[-1]["problem"].startswith("the line has no product")
    assert counts["unreadable"] == 1
    assert not touched.exists()


@pytest.mark.parametrize(
    "line",
    ['{"asin": 7}', "[1]", '{"asin": "B1", "questions": [7]}', '{"asin": "B1", "questions": [{"answers": [7]}]}'],
)
def test_a_line_without_product_question_or_answer_is_quarantined(tmp_path, line):
    """The lines around it are read."""
    written(tmp_path / "QA_Toys.json", f"{SEVERAL!r}\n{line}\n\n{SEVERAL!r}\n")
    rows, counts = rows_of("amazon_qa", tmp_path)
    assert [row["problem"] is None for row in rows] == [True] * 3 + [False] + [True] * 3
    assert (counts["unreadable"], counts["blank lines"]) == (1, 1)


def test_a_single_file_is_no_folder(folder):
    """The join needs the files beside it."""
    with pytest.raises(CorpusError, match="needs a folder with QA_"):
        rows_of("amazon_qa", folder / "QA_Toys.json.gz")
