"""A dirty corpus through the real stages: every row is let through or quarantined with its reasons; nothing is lost."""

import json

import pytest
from whole_runs import start_run

pytestmark = pytest.mark.slow


def prepare(data_root, corpus, **params):
    """`kedro run` of the stages that prepare data, on a JSON lines corpus."""
    given = {"corpus.format": "jsonl", "corpus.path": corpus, **params}
    return start_run(data_root, "--pipelines", "ingest,validate,partition", **given).wait()


def row(user, number, **changes):
    minute = f"2026-01-01T10:{number % 60:02d}:00Z"
    return json.dumps(
        {"user_id": user, "id": f"{number}", "query": "hi", "response": f"answer {number}", "time": minute} | changes
    )


def clean_rows():
    return [row(f"person {user}", number) for user in range(6) for number in range(35)]


DIRTY = {
    "broken JSON": (b'{"user_id": "person 1", "respon', "problem"),
    "wrong encoding": (b'{"user_id": "person 1", "response": "caf\xe9"}', "problem"),
    "no object": (b"[1, 2]", "problem"),
    "no user": (row(None, 900).encode(), "user_id"),
    "no response": (row("person 1", 901, response=None).encode(), "response"),
    "blank response": (row("person 1", 902, response="   ").encode(), "response"),
    "a megabyte": (row("person 1", 903, response="word " * 200_000).encode(), "response"),
    "control characters": (row("person 1", 904, response="beep\x07beep").encode(), "response"),
    "impossible time": (row("person 1", 905, time="yesterday").encode(), "problem"),
    "time in the future": (row("person 1", 906, time="2999-01-01T00:00:00Z").encode(), "time"),
    "one id twice": (row("person 2", 0).encode(), "record_id"),
}


def test_a_dirty_corpus_loses_nothing_and_names_every_reason(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    out_of_order = [row("person 0", 950, time="2026-01-01T09:00:00Z").encode()]
    corpus.write_bytes(
        b"\n".join([*(line.encode() for line in clean_rows()), *(one for one, _ in DIRTY.values()), *out_of_order])
        + b"\n"
    )

    done = prepare(tmp_path / "data", corpus)

    assert done.returncode == 0, done.stdout + done.stderr
    from imprint.data.tables import open_table

    ingest = json.loads((tmp_path / "data/02_intermediate/ingest_report.json").read_text())
    result = json.loads((tmp_path / "data/03_primary/validation_result.json").read_text())
    quarantine = open_table(tmp_path / "data/03_primary/quarantine").to_table().to_pylist()
    histories = open_table(tmp_path / "data/04_feature/user_histories").to_table().to_pylist()
    assert ingest["rows_read"] == result["rows_in"] == 6 * 35 + len(DIRTY) + 1
    assert len(quarantine) == result["rows_quarantined"] == len(DIRTY) + 1  # both rows of one id are refused
    assert len(histories) == result["rows_out"] == result["rows_in"] - result["rows_quarantined"]
    by_source = {int(one["source"].rpartition(":")[2]): one["checks"] for one in quarantine}
    for number, (name, (_, column)) in enumerate(DIRTY.items(), start=6 * 35 + 1):
        assert any(f"({column})" in check for check in by_source[number]), name
    first = [one for one in histories if one["order"] == 0 and one["response"] == "answer 950"]
    assert len(first) == 1  # the row out of order is first in its user's history
    everything = b"".join(file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file())
    assert b"person 1" not in everything
    page = (tmp_path / "data/08_reporting/validation.html").read_text()
    assert str(result["rows_quarantined"]) in page


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([row("only", number) for number in range(50)], "partition."),
        ([*[row("one", number) for number in range(50)], row("two", 0)], "min_interactions"),
    ],
    ids=["one user only", "a user with one row"],
)
def test_too_few_users_end_with_what_there_is_and_what_to_do(tmp_path, lines, says):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(lines) + "\n")

    done = prepare(tmp_path / "data", corpus)

    assert done.returncode != 0
    shown = " ".join((done.stdout + done.stderr).split())
    assert "NotEnoughDataError" in shown
    assert says in shown
    assert not (tmp_path / "data/04_feature/user_index").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "corpus.path"),
        (b"", "empty"),
        ("folder", "folder"),
        ("text".encode("utf-16"), "UTF-16"),
        (b'{"a": 1}\n', "corpus.columns"),
    ],
    ids=["missing", "empty", "a directory", "UTF-16", "no such column"],
)
def test_a_corpus_that_is_not_one_fails_before_any_work(tmp_path, content, says):
    corpus = tmp_path / "corpus.jsonl"
    if content == "folder":
        corpus.mkdir()
    elif content is not None:
        corpus.write_bytes(content)

    done = prepare(tmp_path / "data", corpus)

    assert done.returncode != 0
    shown = " ".join((done.stdout + done.stderr).split())
    assert "CorpusError" in shown
    assert says in shown
    assert not list((tmp_path / "data").rglob("*.parquet"))


def test_a_corpus_of_which_too_much_is_refused_stops_with_a_page(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    lines = [*(line.encode() for line in clean_rows()), *[b"{broken"] * 200]
    corpus.write_bytes(b"\n".join(lines))

    done = prepare(tmp_path / "data", corpus)

    assert done.returncode != 0
    assert "max_quarantined_share" in done.stdout + done.stderr
    page = (tmp_path / "data/02_intermediate/validation_stopped.html").read_text()
    assert "200" in page
    assert not (tmp_path / "data/03_primary/interactions").exists()
