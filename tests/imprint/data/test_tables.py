"""Tables are written whole or not at all, streamed, and read back as they were written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from imprint.data.atomic import read_manifest
from imprint.data.tables import (
    joined_batches,
    new_table,
    open_table,
    opened_fingerprint,
    read_batches,
    require_rows,
    schema_fingerprint,
    table_fingerprint,
    write_table,
)
from imprint.errors import RowsLostError, StoreError, UnfinishedStoreError
from imprint.schema import interactions_schema

SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64())])


def batch(first: int, rows: int) -> pa.RecordBatch:
    numbers = range(first, first + rows)
    return pa.RecordBatch.from_pylist([{"name": f"n{number}", "number": number} for number in numbers], schema=SCHEMA)


def numbers(path: Path, **choice: list[str]) -> list[list[int]]:
    return [one.column("number").to_pylist() for one in read_batches(path, **choice)]


def test_batches_come_back_as_written(tmp_path: Path) -> None:
    """Each batch is one row group, so a batch that holds whole users still does after a round trip."""
    manifest = write_table(tmp_path / "t", [batch(0, 3), batch(3, 0), batch(3, 5)], SCHEMA)
    assert numbers(tmp_path / "t") == [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert manifest["rows"] == 8
    assert manifest["schema"] == schema_fingerprint(SCHEMA)
    assert len(manifest["files"]["part-00000.parquet"]["sha256"]) == 64


def test_interactions_keep_labels_maps_and_nulls(tmp_path: Path) -> None:
    row = {
        "user_id": "u1",
        "record_id": "r1",
        "corpus": "c",
        "task": "dialogue",
        "time": None,
        "order": 0,
        "query": "",
        "response": "Grüße 🌱",
        "persona": ["I knit."],
        "attributes": [("kind", "chat")],
    }
    rows = [row, {**row, "persona": None, "attributes": None, "task": "title"}]
    schema = interactions_schema()
    written = [pa.RecordBatch.from_pylist([one], schema=schema) for one in rows]
    write_table(tmp_path / "t", written, schema)
    assert [one for found in read_batches(tmp_path / "t") for one in found.to_pylist()] == rows
    assert all(found.schema.equals(schema) for found in read_batches(tmp_path / "t"))
    assert open_table(tmp_path / "t").schema.equals(schema)


def test_an_empty_stream_is_an_empty_table(tmp_path: Path) -> None:
    assert write_table(tmp_path / "t", [], SCHEMA)["rows"] == 0
    assert open_table(tmp_path / "t").to_table().schema.equals(SCHEMA)
    assert numbers(tmp_path / "t") == []


def test_a_table_is_named_by_its_rows_and_their_order(tmp_path: Path) -> None:
    """Wherever it lies, and whatever its notes say: a run's record names the data by it."""
    rows = {"t": [batch(0, 4)], "copy": [batch(0, 4)], "less": [batch(0, 3)], "later": [batch(1, 4)]}
    for name, batches in rows.items():
        write_table(tmp_path / name, batches, SCHEMA)
    with new_table(tmp_path / "noted", SCHEMA) as writer:
        writer.write(batch(0, 4))
        writer.notes["of"] = "somebody"
    found = {name: table_fingerprint(tmp_path / name) for name in [*rows, "noted"]}
    assert found["t"] == found["copy"] == found["noted"] == opened_fingerprint(open_table(tmp_path / "t"))
    assert len(set(found.values())) == 3
    with pytest.raises(UnfinishedStoreError):
        table_fingerprint(tmp_path / "absent")


def test_parts_are_begun_anew_without_cutting_a_batch(tmp_path: Path) -> None:
    manifest = write_table(tmp_path / "t", [batch(k, 4) for k in range(0, 20, 4)], SCHEMA, part_rows=6)
    assert manifest["parts"] == {"part-00000.parquet": 8, "part-00001.parquet": 8, "part-00002.parquet": 4}
    assert [number for part in numbers(tmp_path / "t") for number in part] == list(range(20))


def test_writing_streams(tmp_path: Path) -> None:
    """A hundred batches are never held together: peak memory stays near one batch."""
    peak = 0

    def stream() -> Iterator[pa.RecordBatch]:
        nonlocal peak
        for _ in range(100):
            yield pa.RecordBatch.from_pydict({"name": ["x" * 500_000], "number": [1]}, schema=SCHEMA)
            peak = max(peak, pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    write_table(tmp_path / "t", stream(), SCHEMA)
    assert peak - before < 10_000_000


def test_equal_rows_make_equal_bytes(tmp_path: Path) -> None:
    one, two = (write_table(tmp_path / name, [batch(0, 9)], SCHEMA)["files"] for name in "ab")
    assert one == two


def test_a_killed_write_leaves_the_older_table(tmp_path: Path) -> None:
    def breaks() -> Iterator[pa.RecordBatch]:
        yield batch(5, 2)
        raise OSError("disk full")

    write_table(tmp_path / "t", [batch(0, 1)], SCHEMA)
    with pytest.raises(OSError, match="disk full"):
        write_table(tmp_path / "t", breaks(), SCHEMA)
    assert numbers(tmp_path / "t") == [[0]]
    assert [file.name for file in tmp_path.iterdir()] == ["t"]


def test_a_table_without_manifest_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [batch(0, 1)], SCHEMA)
    (tmp_path / "t" / "manifest.json").unlink()
    with pytest.raises(UnfinishedStoreError, match="run the stage"):
        read_batches(tmp_path / "t")
    with pytest.raises(UnfinishedStoreError):
        open_table(tmp_path / "nothing")


def test_a_part_that_is_short_or_gone_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [batch(0, 1)], SCHEMA)
    part = tmp_path / "t" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"part-00000\.parquet"):
        read_batches(tmp_path / "t")
    part.unlink()
    with pytest.raises(StoreError, match="absent"):
        open_table(tmp_path / "t")


def test_a_stray_file_is_not_read(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [batch(0, 1)], SCHEMA)
    write_table(tmp_path / "other", [batch(7, 1)], SCHEMA)
    (tmp_path / "other" / "part-00000.parquet").rename(tmp_path / "t" / "part-00001.parquet")
    assert numbers(tmp_path / "t") == [[0]]
    assert open_table(tmp_path / "t").count_rows() == 1


def test_named_parts_exist_and_are_read_by_name(tmp_path: Path) -> None:
    with new_table(tmp_path / "t", SCHEMA, names=["shard-00000", "shard-00001"]) as writer:
        writer.write(batch(3, 2), "shard-00001")
        writer.notes["stage"] = "partition"
    assert numbers(tmp_path / "t", names=["shard-00000"]) == []
    assert numbers(tmp_path / "t", names=["shard-00001"]) == [[3, 4]]
    assert (read_manifest(tmp_path / "t") or {})["stage"] == "partition"
    with pytest.raises(StoreError, match="shard-00009"):
        read_batches(tmp_path / "t", names=["shard-00009"])


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write_table(tmp_path / "t", [batch(0, 2)], SCHEMA)
    assert [one.schema.names for one in read_batches(tmp_path / "t", columns=["number"])] == [["number"]]


def test_a_batch_of_another_schema_is_refused_by_column(tmp_path: Path) -> None:
    other = pa.RecordBatch.from_pydict({"name": ["a"], "number": ["1"]})
    with pytest.raises(StoreError, match="differs from its schema in number"):
        write_table(tmp_path / "t", [other], SCHEMA)
    assert not (tmp_path / "t").exists()


def test_joined_batches_never_cut_one() -> None:
    joined = joined_batches([batch(0, 3), batch(3, 0), batch(3, 3), batch(6, 3)], SCHEMA, rows=5, nbytes=10**9)
    assert [one.column("number").to_pylist() for one in joined] == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]
    assert len(list(joined_batches([batch(0, 3), batch(3, 3)], SCHEMA, rows=100, nbytes=1))) == 2


def test_lost_rows_are_an_error() -> None:
    require_rows("validate", 10, 7, 3)
    with pytest.raises(RowsLostError, match=r"validate: 10 rows in, but 7 out \+ 2 quarantined = 9"):
        require_rows("validate", 10, 7, 2)
