"""Medical questions on invented answers: spellings of authors, padding, links, cut answers."""

from __future__ import annotations

import json

import pytest

from imprint.corpora import CorpusSettings, open_corpus
from imprint.corpora.medqa import answer_text, author_id, one_line
from imprint.corpora.reading import READ
from imprint.errors import CorpusError


def rows_of(folder, **files):
    for name, records in files.items():
        (folder / f"{name}.json").write_text(records if isinstance(records, str) else json.dumps(records))
    corpus = open_corpus(CorpusSettings(format="medqa", path=str(folder)))
    rows = [row for batch in corpus.batches() for row in batch.to_pylist()]
    assert sum(number for kind, number in corpus.counts.items() if kind != READ) == corpus.counts[READ]
    return rows, corpus.counts


def answer(**changes):
    plain = {"answer": "rest", "question": "tired", "question_text": "Why tired?", "url": "https://example.org/1"}
    return plain | {"answer_author": "Dr. Wren Kite"} | changes


@pytest.mark.parametrize(
    "spelling", ["Dr. Wren Kite", "dr wren  kite", "Wren Kite", "Dr.Wren.Kite", "DOCTOR Wren Kite"]
)
def test_spellings_of_an_author_are_one_user(spelling):
    """Case, dots, spaces and the title differ between rows of one person."""
    assert author_id(spelling) == "wren kite"


@pytest.mark.parametrize("role", ["unknown", "Original poster", "Original questioner", " . "])
def test_a_role_is_no_user(role):
    """Many people share it."""
    assert author_id(role) is None


def test_rows_of_all_sites(tmp_path):
    """With author, without author, and the question that a site has."""
    rows, counts = rows_of(
        tmp_path,
        questionDoctorQAs=[answer(), answer(answer="drink\u00a0more …")],
        ehealthforumQAs=[{"answer": "walk --> <link>", "question": "how to\nmove", "url": "u", "tags": ""}],
    )
    assert [(row["user"], row["query"], row["response"]) for row in rows] == [
        ("wren kite", "Why tired?", "rest"),
        ("wren kite", "Why tired?", "drink more …"),
        (None, "how to move", "walk"),
    ]
    assert [dict(row["attributes"]).get("cut") for row in rows] == [None, "true", None]
    assert {row["task"] for row in rows} == {"answer"}
    assert counts == {READ: 3, "answers": 2, "answers without author": 1}


def test_padding_and_links_go_and_links_inside_stay():
    """Only the marker at the end is the site's."""
    assert one_line("\r\n\t\tHi\u00a0 doctor,\nhelp\t") == "Hi doctor, help"
    assert answer_text("see <link> for more --> <link>") == "see <link> for more"
    assert answer_text("ask online <link> ") == "ask online"


@pytest.mark.parametrize("record", [7, {"answer": 1, "question": "q"}, {"answer": "a", "question_text": ["q"]}])
def test_a_record_of_another_kind_is_a_row_with_a_problem(tmp_path, record):
    """It is counted and quarantined."""
    rows, counts = rows_of(tmp_path, icliniqQAs=[record])
    assert rows[0]["problem"]
    assert counts["unreadable"] == 1


def test_a_missing_answer_stays_null(tmp_path):
    """Validation refuses it by name."""
    rows, _ = rows_of(tmp_path, questionDoctorQAs=[answer(answer=None)])
    assert (rows[0]["response"], rows[0]["problem"]) == (None, None)


def test_a_folder_without_the_files_is_refused(tmp_path):
    """The message lists their names."""
    with pytest.raises(CorpusError, match=r"none of questionDoctorQAs\.json"):
        rows_of(tmp_path)


@pytest.mark.parametrize(("content", "message"), [("[{", "is not JSON"), ("{}", "not a JSON list"), ("", "is empty")])
def test_a_broken_file_stops_the_reading(tmp_path, content, message):
    """A JSON list cut short has no rows to save."""
    with pytest.raises(CorpusError, match=message):
        rows_of(tmp_path, icliniqQAs=content)
