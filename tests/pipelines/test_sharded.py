"""A dataset a shard: what one task writes leaves every other shard's as it is."""

import pyarrow as pa
import pytest
from kedro.io import DatasetError

from imprint.data.tables import table_fingerprint
from pipelines.sharded import Sharded


@pytest.fixture
def records(tmp_path):
    return Sharded(filepath=str(tmp_path / "memories"), dataset="pipelines.datasets.WholeJSON", suffix=".json")


@pytest.fixture
def tables(tmp_path):
    return Sharded(filepath=str(tmp_path / "scores"), dataset={"type": "pipelines.datasets.Table"})


def test_each_shard_is_saved_and_loaded_by_its_name(records, tmp_path):
    records.save({"a": {"users": 1}})
    records.save({"b": {"users": 2}})
    records.save({"a": {"users": 3}})

    by_shard = records.load()
    assert [by_shard(name) for name in ("b", "a")] == [{"users": 2}, {"users": 3}]
    assert sorted(file.name for file in (tmp_path / "memories").iterdir()) == ["a.json", "b.json"]


def test_a_shard_that_cannot_be_written_leaves_what_was_there_and_the_others(records):
    records.save({"a": {"users": 1}, "b": {"users": 2}})
    with pytest.raises(DatasetError):
        records.save({"a": {"users": object()}})
    assert [records.load()(name) for name in ("a", "b")] == [{"users": 1}, {"users": 2}]


def test_a_shard_that_was_never_finished_is_an_error_when_it_is_asked_for(tables, tmp_path):
    tables.save({"a": pa.table({"n": [1]}), "b": pa.table({"n": [2]})})
    (tmp_path / "scores/b/manifest.json").unlink()

    by_shard = tables.load()
    assert by_shard("a").to_table().column("n").to_pylist() == [1]
    for name in ("b", "c"):
        with pytest.raises(DatasetError, match=r"no manifest\.json"):
            by_shard(name)


def test_a_runs_record_can_name_the_tables_it_touched_and_no_others(tables, records, tmp_path):
    tables.save({"a": pa.table({"n": [1]}), "b": pa.table({"n": [2]})})
    of = {name: table_fingerprint(tmp_path / "scores" / name) for name in ("a", "b")}
    assert tables.fingerprint() == of
    assert tables.fingerprint() == {}
    tables.load()("b")
    assert tables.fingerprint() == {"b": of["b"]}
    records.save({"a": {}})
    assert records.fingerprint() == {}
