"""IRC logs on invented lines: who a nick is, what time it was, and that every line is counted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from imprint.corpora import CorpusSettings, open_corpus, user_named
from imprint.corpora.irc import plain, user_of
from imprint.corpora.reading import READ
from imprint.errors import CorpusError


def read(tmp_path, *lines, day="2006-01-02", **settings):
    """Rows and counts of one log file in the layout of the corpus."""
    path = tmp_path / "data" / "train" / f"{day}.train-c.raw.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return rows_of(tmp_path, **settings)


def rows_of(folder, **settings):
    corpus = open_corpus(CorpusSettings(format="irc", path=str(folder), **settings))
    rows = [row for batch in corpus.batches() for row in batch.to_pylist()]
    counts = dict(corpus.counts)
    assert sum(number for kind, number in counts.items() if kind != READ) == counts[READ]
    return rows, counts


def test_every_kind_of_line_is_counted_once(tmp_path):
    """Kinds add up to the lines read (checked in `rows_of`), and only people's words are rows."""
    rows, counts = read(
        tmp_path,
        "[04:46] <Wren> anyone here?",
        "[04:46]  * Finch nods",
        "[04:46] * Finch nods twice",
        "=== Finch yawns",
        "=== Finch is now known as Finch_",
        "=== Lark [~l@host.example]  has joined #ubuntu",
        "=== Wren [+o Wren]  by ChanServ",
        "[04:47] <ubotu> wren: a fact",
        "[04:47] <FloodBot2> finch: do not flood",
        "[04:47] -spam:#ubuntu- buy",
        "",
        "no log line",
    )
    assert counts == {
        READ: 12,
        "messages": 1,
        "actions": 3,
        "renames": 1,
        "system lines": 2,
        "bot messages": 2,
        "notices": 1,
        "blank lines": 1,
        "unreadable": 1,
    }
    assert [row["response"] for row in rows] == ["anyone here?", "* nods", "* nods twice", "* yawns", None]
    assert rows[-1]["where"].endswith(":12")
    assert rows[-1]["problem"]


@pytest.mark.parametrize(("context", "query"), [(1, "two"), (2, "one\ntwo")])
def test_the_query_is_the_last_messages_of_whoever_wrote_them(tmp_path, context, query):
    """Without nicks; a bot's words in between are no query."""
    lines = ("[01:00] <a1> one", "[01:00] <b1> two", "[01:00] <ubottu> fact", "[01:01] <c1> three")
    rows, _ = read(tmp_path, *lines, context_messages=context)
    assert rows[0]["query"] == ""
    assert rows[2]["query"] == query
    assert dict(rows[2]["attributes"]) == {"dialogue": "2006-01-02.train-c", "counterpart": "b1"}


@pytest.mark.parametrize(
    ("nick", "user"),
    [
        ("Wren", "wren"),
        ("wren_", "wren"),
        ("wren__`", "wren"),
        ("wren|away", "wren"),
        ("wren[work]", "wren"),
        ("Wren_away_", "wren"),
        ("wren2", "wren2"),
        ("wren^", "wren^"),
        ("run_out_", "run"),
        ("__", "__"),
        ("[x] y", "[x]y"),
        ("ubuntu_", None),
        ("Guest", None),
        ("guest123", "guest123"),
    ],
)
def test_a_nick_is_a_user_by_these_rules(nick, user):
    """Suffixes of clients go, digits and carets stay, and nicks for everybody are nobody."""
    assert user_of(nick) == user


def test_who_asks_for_a_nick_gets_the_user_whom_the_reader_gave_it(tmp_path):
    """One rule for both: a request by the nick as it stands in the log finds its rows."""
    nicks = ["Wren_", "wren", "KITE|away", "[night] owl", "finch^", "ubuntu_", "null_"]
    rows, _ = read(tmp_path, *(f"[01:00] <{nick}> hello" for nick in nicks))
    assert [user_named("irc", nick) for nick in nicks] == [row["user"] for row in rows]


def test_a_rename_holds_in_its_file_until_the_nick_changes_hands(tmp_path):
    """Linked too much, two people would share a memory."""
    rows, _ = read(
        tmp_path,
        "=== wren is now known as robin",
        "[01:00] <robin> still wren",
        "=== robin is now known as crow",
        "[01:00] <robin> another robin",
        "[01:00] <crow> wren again",
        "=== crow [~c@host.example]  has joined #ubuntu",
        "[01:00] <crow> a new crow",
        "=== ubuntu is now known as dove",
        "[01:00] <dove> from a shared nick",
    )
    assert [row["user"] for row in rows] == ["wren", "robin", "wren", "crow", "dove"]
    later, _ = read(tmp_path, "[01:00] <robin> next day", day="2006-01-03")
    assert later[-1]["user"] == "robin"


def test_nicks_for_everybody_give_rows_without_user(tmp_path):
    """They are quarantined later, not dropped and not pooled."""
    rows, _ = read(tmp_path, "[01:00] <ubuntu> help", "[01:00] <wren> sure")
    assert [row["user"] for row in rows] == [None, "wren"]
    assert "counterpart" not in dict(rows[1]["attributes"])


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (("23:59", "00:00", "00:01"), ["02 23:59", "03 00:00", "03 00:01"]),
        (("11:59", "00:00", "01:00"), ["02 11:59", "02 12:00", "02 13:00"]),
        (("12:59", "01:00"), ["02 12:59", "02 13:00"]),
        (("11:50", "00:10", "11:55", "00:05"), ["02 11:50", "02 12:10", "02 23:55", "03 00:05"]),
        (("10:05", "10:04"), ["02 10:05", "02 10:04"]),
        (("01:00", "09:00"), ["02 01:00", "02 09:00"]),
    ],
)
def test_the_clock_goes_on_over_midnight_and_over_noon(tmp_path, clock, expected):
    """Old logs have a 12-hour clock; a step of minutes back is a tie and stays."""
    rows, _ = read(tmp_path, *(f"[{shown}] <wren> x" for shown in clock))
    assert [row["time"].astimezone(UTC).strftime("%d %H:%M") for row in rows] == expected
    assert rows[0]["time"].astimezone(UTC).date() == datetime(2006, 1, 2, tzinfo=UTC).date()


def test_files_are_taken_by_date_and_equal_files_once(tmp_path):
    """Folders of splits cut through time; a copy of a day would double its users' rows."""
    for folder, day in (("train", "2007-01-01.train-a"), ("dev", "2005-01-01_03"), ("test", "2007-01-02_04")):
        path = tmp_path / "data" / folder / f"{day}.raw.txt"
        path.parent.mkdir(parents=True)
        path.write_text("[01:00] <wren> late\n" if folder != "dev" else "[01:00] <wren> early\n")
    rows, counts = rows_of(tmp_path)
    assert [row["response"] for row in rows] == ["early", "late"]
    assert counts["lines of repeated files"] == 1


def test_colours_control_characters_and_separators_are_removed_and_lines_end_at_newlines(tmp_path):
    """U+001C and U+0085 end a line for Python's splitlines, and for no IRC client."""
    assert plain("\x0304,12red\x03 and\tbold\x02") == "red and bold"
    rows, counts = read(tmp_path, "[01:00] <wren> one\x1cstill\x85one")
    assert [row["response"] for row in rows] == ["onestillone"]
    assert counts[READ] == 1


def test_lines_that_are_not_utf_8_are_read_as_latin_1_and_counted(tmp_path):
    """Half of Europe wrote Latin-1 in 2005."""
    rows, counts = read(tmp_path, "[01:00] <wren> café".encode("latin-1"), "[01:00] <wren> café")
    assert [row["response"] for row in rows] == ["café", "café"]
    assert counts == {READ: 2, "messages, latin-1": 1, "messages": 1}


def test_nicks_with_brackets_lose_the_space_of_the_logs(tmp_path):
    """`[night]owl` is logged as `[night] owl`."""
    rows, _ = read(tmp_path, "[01:00] <[night] owl> hoot", "[01:00]  * [night] owl flies", "=== [night] owl sleeps")
    assert {row["user"] for row in rows} == {"[night]owl"}
    assert [row["response"] for row in rows] == ["hoot", "* flies", "* sleeps"]


def test_names_include_people_who_only_listen_and_no_bots(tmp_path):
    """They are mentioned in others' messages."""
    read(
        tmp_path,
        "=== Lark [~l@host.example]  has joined #ubuntu",
        "[01:00] <Wren_> x",
        "[01:00] <ubotu> y",
        "=== owl is now known as Kite",
    )
    corpus = open_corpus(CorpusSettings(format="irc", path=str(tmp_path)))
    assert sorted(corpus.user_names()) == ["kite", "lark", "owl", "wren", "wren_"]


def test_a_folder_without_logs_is_refused(tmp_path):
    """The message shows the names that are looked for."""
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CorpusError, match=r"no YYYY-MM-DD\*\.raw\.txt"):
        rows_of(tmp_path)
