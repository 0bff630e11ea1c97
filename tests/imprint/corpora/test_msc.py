"""Multi-Session Chat on invented sessions: who speaks, what is known, and that nothing is used twice."""

from __future__ import annotations

import json

import pytest

from imprint.corpora import CorpusSettings, open_corpus
from imprint.corpora.reading import READ
from imprint.errors import CorpusError


def turns(*texts):
    return [{"text": text} for text in texts]


def dialogue(pair, session, own, earlier, known=(["I own a kite."], ["I fix clocks."])):
    """A line of `msc_dialogue/session_N`: its own turns, and those of the sessions before."""
    learned = [[["My kite is red."], []], [["I moved."], ["I like owls."]]]
    return {
        "personas": known,
        "dialog": turns(*own),
        "metadata": {"initial_data_id": pair, "session_id": session - 1},
        "previous_dialogs": [
            {"personas": learned[index], "dialog": turns(*texts), "time_back": "2 days ago"}
            for index, texts in enumerate(earlier)
        ],
        "init_personas": [["I like kites."], ["I like clocks."]],
    }


def write(folder, name, *lines):
    path = folder / "deep" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def rows_of(folder):
    corpus = open_corpus(CorpusSettings(format="msc", path=str(folder)))
    rows = [row for batch in corpus.batches() for row in batch.to_pylist()]
    assert sum(number for kind, number in corpus.counts.items() if kind != READ) == corpus.counts[READ]
    return rows, corpus.counts


@pytest.fixture
def folder(tmp_path):
    """Pair 0 with three sessions in one line, pair 1 with two; a fourth session of pair 0 among the summaries."""
    one, two, three = ("hi", "hello", "kite?"), ("again", "yes"), ("third", "time")
    write(tmp_path, "msc_dialogue/session_3/valid.txt", dialogue("valid_0", 3, three, [one, two]))
    write(
        tmp_path,
        "msc_dialogue/session_2/valid.txt",
        dialogue("valid_0", 2, ("stale", "copy"), [one]),
        dialogue("valid_1", 2, ("b2", "c2"), [("b1", "c1")]),
    )
    for session in (1, 4):
        summary = {
            "initial_data_id": "valid_0",
            "dialog": turns(f"s{session}"),
            "init_personachat": {"init_personas": [["I like kites."], ["I like clocks."]]},
        }
        write(tmp_path, f"msc_personasummary/session_{session}/valid.txt", summary)
    return tmp_path


def test_speakers_are_users_by_parity_and_each_session_is_used_once(folder):
    """The copy of session 2 in `session_2` repeats what `session_3` holds already."""
    rows, counts = rows_of(folder)
    said = [(row["user"], row["source_id"], row["query"], row["response"]) for row in rows]
    assert said == [
        ("valid_0/0", "1:0", "", "hi"),
        ("valid_0/1", "1:1", "hi", "hello"),
        ("valid_0/0", "1:2", "hello", "kite?"),
        ("valid_0/0", "2:0", "", "again"),
        ("valid_0/1", "2:1", "again", "yes"),
        ("valid_0/0", "3:0", "", "third"),
        ("valid_0/1", "3:1", "third", "time"),
        ("valid_1/0", "1:0", "", "b1"),
        ("valid_1/1", "1:1", "b1", "c1"),
        ("valid_1/0", "2:0", "", "b2"),
        ("valid_1/1", "2:1", "b2", "c2"),
        ("valid_0/0", "4:0", "", "s4"),
    ]
    assert counts == {READ: 5, "dialogue lines": 3, "repeated lines": 2}


def test_the_persona_is_what_was_known_before_the_session(folder):
    """A summary written from a session must not be given with that session's own turns."""
    rows, _ = rows_of(folder)
    first = {row["source_id"]: row["persona"] for row in rows if row["user"] == "valid_0/0"}
    assert first["1:0"] == ["I like kites."]
    assert first["2:0"] == ["My kite is red."]
    assert first["3:0"] == ["I own a kite."]


def test_sessions_carry_dialogue_session_and_file(folder):
    """And no time, for the corpus has none."""
    rows, _ = rows_of(folder)
    assert dict(rows[3]["attributes"]) == {"dialogue": "valid_0", "session": "2", "file": "valid"}
    assert all(row["time"] is None for row in rows)


@pytest.mark.parametrize("line", ["{broken", "[]", '{"personas": []}', '{"metadata": {"initial_data_id": "x"}}'])
def test_a_broken_line_is_a_row_with_a_problem(folder, line):
    """And the pair's sessions are taken from the other file."""
    write(folder, "msc_dialogue/session_3/valid.txt", line)
    rows, counts = rows_of(folder)
    assert [row["where"] for row in rows if row["problem"]] == ["msc_dialogue/session_3/valid.txt:1"]
    assert counts["unreadable lines"] == 1
    assert "stale" in [row["response"] for row in rows]


def test_a_folder_without_msc_is_refused(tmp_path):
    """The message says what the folder should hold."""
    with pytest.raises(CorpusError, match="msc_dialogue/session_N"):
        rows_of(tmp_path)


def test_an_empty_session_file_is_refused(folder):
    """A file cut to nothing is a broken copy."""
    write(folder, "msc_dialogue/session_2/test.txt")
    with pytest.raises(CorpusError, match="is empty"):
        rows_of(folder)


def test_a_file_is_no_folder(tmp_path):
    """One session file alone is not the corpus."""
    (tmp_path / "valid.txt").write_text("{}\n")
    with pytest.raises(CorpusError, match=r"is a file; corpus\.format 'msc' needs a folder"):
        rows_of(tmp_path / "valid.txt")
