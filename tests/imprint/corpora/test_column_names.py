"""What is said of a table whose columns are not those that were expected, and what is not repeated there."""

import json

import pytest

from imprint.corpora import CorpusSettings, open_corpus
from imprint.errors import CorpusError

GOOD = {"user_id": "ann", "query": "tea?", "response": "yes please"}


def opened(path, kind="jsonl", **settings):
    return open_corpus(CorpusSettings(format=kind, path=str(path), **settings))


@pytest.mark.parametrize(
    ("kind", "words"),
    [("csv", "u42,my therapist says,no\n"), ("jsonl", '{"u42": 1, "my therapist says": "no"}\n')],
)
def test_a_first_row_taken_for_names_is_not_repeated(tmp_path, kind, words):
    """A table without a header, or lines keyed by user: what is read there are people's words."""
    path = tmp_path / "headless"
    path.write_text(words)
    with pytest.raises(CorpusError, match="has the file a header") as refused:
        opened(path, kind)
    assert "therapist" not in str(refused.value)
    assert "u42" not in str(refused.value)


def test_a_table_without_its_column_of_times_is_warned_of(tmp_path, caplog):
    """What is earlier would else be told by the order of the file, and nobody the wiser."""
    path = tmp_path / "untimed.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    opened(path, columns={"time": None})
    assert not caplog.records
    opened(path)
    assert ["corpus.columns.time" in one.message for one in caplog.records] == [True]
