"""Records of JSON and CSV files: streamed, and each broken one named without harm to the others."""

from __future__ import annotations

import gzip
import json

import pytest

from imprint.corpora import records
from imprint.corpora.reading import decoded_lines
from imprint.corpora.records import csv_rows, json_lines, json_list
from imprint.errors import CorpusError


def written(folder, content, name="records.json"):
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("chunk", [2, 3, 7, 1 << 20])
@pytest.mark.parametrize("name", ["records.json", "records.json.gz"])
def test_a_list_is_read_the_same_however_it_is_cut_into_chunks(tmp_path, monkeypatch, chunk, name):
    """A number, an escape or a bracket at the edge of a chunk is whole again."""
    monkeypatch.setattr(records, "CHUNK", chunk)
    values = [{"a": [1, 23456]}, 78901, 'x]\\"é,', [], None, {"b": {"c": "[" * 20}}, 5]
    assert list(json_list(written(tmp_path, json.dumps(values, indent=1), name))) == values
    assert list(json_list(written(tmp_path, "\ufeff \n[ ]", name))) == []


def test_elements_come_before_the_file_is_read_to_its_end(tmp_path, monkeypatch):
    """A list of gigabytes does not fit into memory."""
    monkeypatch.setattr(records, "CHUNK", 16)
    stream = json_list(written(tmp_path, json.dumps([{"n": number} for number in range(50)])[:-1] + " broken"))
    assert [next(stream)["n"] for _ in range(50)] == list(range(50))
    with pytest.raises(CorpusError, match="breaks off"):
        next(stream)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', "not a JSON list"),
        ("", "is empty"),
        ('[{"a": 1', "breaks off"),
        ('[{"a": 1}', "breaks off"),
        ("[1", "breaks off"),
        ('["caf\xe9"]'.encode("latin-1"), "is not JSON"),
    ],
)
def test_a_list_that_is_none_stops_the_reading(tmp_path, content, message):
    """Half a list is a broken copy, and its rest is unknown."""
    with pytest.raises(CorpusError, match=message):
        list(json_list(written(tmp_path, content)))


def test_a_gzip_file_cut_short_stops_the_reading(tmp_path):
    """An interrupted download."""
    whole = gzip.compress(b'{"a": 1}\n' * 5000)
    path = tmp_path / "cut.json.gz"
    path.write_bytes(whole[:-9])
    with pytest.raises(CorpusError, match="not a whole gzip file"):
        list(json_lines(path))
    path.write_bytes(b'{"a": 1}\n')
    with pytest.raises(CorpusError, match="not a whole gzip file"):
        list(decoded_lines(path, "utf-8"))


def test_a_broken_line_is_named_and_the_others_are_read(tmp_path):
    """Blank lines are neither."""
    path = written(tmp_path, b'{"a": 1}\n\n{broken\n[1]\n{"a": "caf\xe9"}\n{"a": 2}\n')
    found = list(json_lines(path))
    assert [value for _, value, _ in found] == [{"a": 1}, None, None, None, None, {"a": 2}]
    assert [number for number, _, problem in found if problem] == [3, 4, 5]


def test_csv_rows_by_column(tmp_path):
    """Quotes, a byte order mark, a blank line, and a record with a cell too many."""
    path = written(tmp_path, '\ufeffid,text\r\n1,"a, ""b""\nc"\r\n\r\n2,x,y\r\n3,z\r\n', "t.csv")
    found = list(csv_rows(path, ["id", "text"]))
    assert [row for _, row, _ in found] == [{"id": "1", "text": 'a, "b"\nc'}, None, None, {"id": "3", "text": "z"}]
    assert [problem for _, _, problem in found if problem] == ["the record has 3 cells, the header 2"]


def test_csv_without_a_needed_column_is_refused(tmp_path):
    """The message says what is there."""
    with pytest.raises(CorpusError, match="no column 'text'; found are id, words"):
        list(csv_rows(written(tmp_path, "id,words\n1,a\n", "t.csv"), ["id", "text"]))
