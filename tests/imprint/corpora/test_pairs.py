"""Questions and replies of invented people: Counsel Chat, MaLP, Reddit pairs."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from corpus_rows import names_of, rows_of, written

from imprint.corpora.counsel_chat import COLUMNS, CounselChat, name_in
from imprint.corpora.crd3 import Crd3
from imprint.corpora.malp import said_plainly
from imprint.corpora.reddit import Reddit
from imprint.errors import CorpusError


def counsel(folder, *records):
    plain = {
        "questionID": "0", "questionTitle": "Why kites?", "questionText": "Why?", "topic": "kites",
        "therapistInfo": "Wren Kitely, LCSWFlying High", "therapistURL": "https://example.org/t/wren-kitely",
        "answerText": "Wind\u00a0helps.",
    }  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(plain | record for record in records)
    written(folder / "counselchat-data.csv", "other,columns\n1,2\n")
    return written(folder / "20200325_counsel_chat.csv", text.getvalue())


def test_an_answer_under_several_topics_is_one_row(tmp_path):
    """The therapist's other answers, and other therapists' equal words, are rows of their own."""
    other = {"therapistURL": "https://example.org/t/owlet/"}
    again = {"questionID": "1", "topic": "wind"}
    records = [{}, again, again | {"answerText": "Run."}, again | {"answerText": "Run far."}, again | other]
    rows, counts = rows_of("counsel_chat", counsel(tmp_path, *records))
    assert [(row["user"], row["source_id"].partition(":")[0], row["response"]) for row in rows] == [
        ("wren-kitely", "0", "Wind helps."),
        ("wren-kitely", "1", "Run."),
        ("wren-kitely", "1", "Run far."),
        ("owlet", "1", "Wind helps."),
    ]
    assert rows[0]["query"] == "Why kites?\nWhy?"
    assert rows[0]["attributes"] == {"dialogue": "0", "categories": "kites"}
    assert (counts["answers"], counts["repeated answers"]) == (4, 1)


def test_a_question_that_repeats_its_title_is_asked_once(tmp_path):
    """Many have no text of their own."""
    rows, _ = rows_of("counsel_chat", counsel(tmp_path, {"questionText": "Why  kites?"}))
    assert rows[0]["query"] == "Why kites?"


def test_therapists_are_known_by_name_to_the_masker(tmp_path):
    """Not by their professions."""
    folder = counsel(tmp_path, {}, {"therapistInfo": "2nd Kite Services"}, {"therapistInfo": "Dr. Ow LetHelp"})
    assert names_of("counsel_chat", folder) == ["Wren Kitely", "Dr. Ow Let"]


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ("Wren KitelyLicensed Counselor", "Wren Kitely"),
        ("Wren A. McKite, PhD", "Wren A. McKite"),
        ("Wren Kite-Owlet LMFT", "Wren Kite-Owlet"),
        ("Dr. Wren Kitely", "Dr. Wren Kitely"),
        ("here to help", None),
        ("Wren", None),
    ],
)
def test_a_name_ends_where_the_profession_begins(info, name):
    """They are run together without a space."""
    assert name_in(info) == name


def test_a_folder_without_the_csv_is_refused(tmp_path):
    """The repository's other CSV has other columns and HTML."""
    (counsel(tmp_path) / "20200325_counsel_chat.csv").unlink()
    with pytest.raises(CorpusError, match=r"20200325_counsel_chat\.csv anywhere below"):
        rows_of("counsel_chat", tmp_path)


def rounds(*pairs):
    return [{str(number): {"Assistant": one, "User": other}} for number, (one, other) in enumerate(pairs)]


SIX = rounds(
    ("Doctor: Hello.", '"My kite hurts."'),
    ("Doctor: Where?", "Patient: At the tail."),
    ("Rest it.", "For long?"),
    ("A week.", "Thanks."),
    ("Welcome.", "Never answered."),
    ("Goodbye.", "Patient: Bye!"),
)


def test_malp_answers_follow_what_the_patient_said(tmp_path):
    """In the last round the patient speaks first, and what was said in the round before it has no answer."""
    rows, counts = rows_of("malp", written(tmp_path / "dialogues_3.json", json.dumps([SIX, SIX[:2]])))
    assert [(row["user"], row["query"], row["response"]) for row in rows] == [
        ("dialogues_3/1", "My kite hurts.", "Where?"),
        ("dialogues_3/1", "At the tail.", "Rest it."),
        ("dialogues_3/1", "For long?", "A week."),
        ("dialogues_3/1", "Thanks.", "Welcome."),
        ("dialogues_3/1", "Bye!", "Goodbye."),
        ("dialogues_3/2", "My kite hurts.", "Where?"),
    ]
    assert {row["task"] for row in rows} == {"answer"}
    assert counts == {"read": 2, "conversations": 2}


@pytest.mark.parametrize("broken", [7, [7], [{"0": {"Assistant": "a"}}], [{"x": {"Assistant": "a", "User": "b"}}]])
def test_a_broken_conversation_is_quarantined(tmp_path, broken):
    """The ones around it are read."""
    rows, counts = rows_of("malp", written(tmp_path / "dialogues.json", json.dumps([SIX, broken, SIX])))
    assert len(rows) == 11
    assert rows[5]["problem"].startswith("the conversation is not a list of rounds")
    assert counts["unreadable"] == 1


def test_profiles_are_no_conversations(tmp_path):
    """They lie in the same repository and are a list too."""
    path = tmp_path / "profiles_4.json"
    written(path, json.dumps(['{"symptoms": "none"}']))
    with pytest.raises(CorpusError, match="profiles are not conversations"):
        rows_of("malp", path)
    with pytest.raises(CorpusError, match="dialogues\\*"):
        rows_of("malp", tmp_path)


@pytest.mark.parametrize(
    ("turn", "plain"), [('Doctor: "Hi."', "Hi."), ('"Patient: Hi."', "Hi."), ("A doctor: me", "A doctor: me")]
)
def test_roles_and_quotation_marks_are_no_part_of_a_turn(turn, plain):
    """The generator left some of them in."""
    assert said_plainly(turn) == plain


def test_reddit_pairs_belong_to_who_replied(tmp_path):
    """The post is the query, its author the counterpart; a deleted account is nobody."""
    lines = [
        "does it fly ?\tann\t1398902300\tit does .\tbo\t1398902400\t4\t0",
        "and now ?\t[deleted]\t1398902500\tno .\tbo\t1398902600\t4\t0",
        "why ?\tbo\t1398902700\twind .\t[deleted]\t1398902800\t4\t0",
    ]
    rows, counts = rows_of("reddit", written(tmp_path / "bo.txt", "\n".join(lines) + "\n\n"))
    assert [(row["user"], row["query"], row["response"]) for row in rows] == [
        ("bo", "does it fly ?", "it does ."),
        ("bo", "and now ?", "no ."),
        (None, "why ?", "wind ."),
    ]
    assert [row["attributes"] for row in rows] == [{"counterpart": "ann"}, {}, {"counterpart": "bo"}]
    assert rows[0]["time"] == datetime(2014, 5, 1, tzinfo=UTC)
    assert counts == {"read": 4, "replies": 2, "replies of deleted users": 1, "blank lines": 1}
    assert names_of("reddit", tmp_path) == ["bo"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"a\tb\t1\tc\td", "the line has 5 columns"),
        (b"a\tb\t1\tc\td\tsoon", "the time is neither"),
        (b"caf\xe9\tb\t1\tc\td\t1", "the bytes are not utf-8"),
    ],
)
def test_a_line_that_is_no_pair_is_quarantined(tmp_path, line, problem):
    """The other lines are read."""
    (tmp_path / "bo.tsv").write_bytes(line + b"\na\tann\t1\tb\tbo\t2\t4\t0\n")
    rows, counts = rows_of("reddit", tmp_path)
    assert problem in rows[0]["problem"]
    assert (rows[1]["user"], counts["unreadable"]) == ("bo", 1)


@pytest.mark.parametrize(
    ("reader", "written_as", "user"),
    [
        (CounselChat, "https://example.org/t/wren-kitely/", "wren-kitely"),
        (CounselChat, "wren-kitely", "wren-kitely"),
        (Crd3, " WREN ", "wren"),
        (Crd3, "ALL", None),
        (Reddit, "[deleted]", None),
        (Reddit, "bo", "bo"),
    ],
)
def test_a_request_finds_the_user_as_the_reader_has_it(reader, written_as, user):
    """`respond` asks the reader, so that a name as a person writes it is the user."""
    assert reader.user_of(written_as) == user
