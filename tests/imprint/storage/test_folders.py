"""Finished folders: a reader has the old one or the new one, whatever happens to the writer."""

import gc
import os
import subprocess
import sys
from datetime import timedelta

import pyarrow as pa
import pytest
from buckets import another_pod, here, objects, put

from imprint.data.atomic import move_directory, new_directory, read_manifest
from imprint.data.tables import open_table, opened_fingerprint, read_batches, write_table
from imprint.errors import BucketError, StoreError, UnfinishedStoreError
from imprint.storage import at, fetch, fetch_listed, folders, places, read_span

# fsspec makes all sends of a folder before it begins one, and where one fails leaves the others lying
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64())])


def write(directory, **files):
    with new_directory(directory, {"note": "kept"}) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)


def read(url):
    """What another pod finds there."""
    another_pod()
    folder = fetch(at(url))
    return {file.name: file.read_text() for file in folder.rglob("*") if file.name != "manifest.json"}


@pytest.fixture
def dead_line(monkeypatch):
    """`dead_line(n)`: after n more objects, nothing reaches the bucket."""

    def after(count):
        client, left = places._client("s3"), [count]

        def cut(send):
            async def sent(*arguments, **more):
                left[0] -= 1
                if left[0] < 0:
                    raise ConnectionResetError("the line went dead")
                return await send(*arguments, **more)

            return sent

        monkeypatch.setattr(client, "_put_file", cut(client._put_file))
        pipe = client.pipe_file

        def cut_pipe(*arguments, **more):
            left[0] -= 1
            if left[0] < 0:
                raise ConnectionResetError("the line went dead")
            return pipe(*arguments, **more)

        monkeypatch.setattr(client, "pipe_file", cut_pipe)
        monkeypatch.setattr(folders, "AT_ONCE", 1)  # so that n is exact

    yield after
    gc.collect()  # what was never sent is found lying now, and not in some other module's test


@pytest.mark.parametrize("sent", range(4))
def test_a_writer_that_is_cut_off_leaves_the_old_folder(bucket, dead_line, sent):
    directory = at(bucket) / "d"
    write(directory, a="old", b="old", c="old")
    dead_line(sent)
    with pytest.raises(BucketError, match="the line went dead"):
        write(at(bucket) / "d", a="new", b="old", d="new")
    assert len(objects(bucket)) == 4 + sent
    assert read_manifest(at(bucket) / "d")["files"].keys() == {"a", "b", "c"}, "the very pod that failed sees it too"
    assert read(f"{bucket}/d") == {"a": "old", "b": "old", "c": "old"}


@pytest.mark.parametrize("sent", range(3))
def test_a_writer_that_is_cut_off_the_first_time_leaves_nothing(bucket, dead_line, sent):
    dead_line(sent)
    with pytest.raises(BucketError):
        write(at(bucket) / "d", a="new", b="new")
    another_pod()
    assert read_manifest(at(bucket) / "d") is None


def test_a_folder_replaces_the_one_before_it_and_nothing_of_that_stays(bucket):
    write(at(bucket) / "d", a="old", b="old")
    write(at(bucket) / "neighbour", a="old")
    another_pod()
    write(at(bucket) / "d", a="new")
    assert read(f"{bucket}/d") == {"a": "new"}
    assert read(f"{bucket}/neighbour") == {"a": "old"}
    assert len(objects(f"{bucket}/d")) == 2


def test_the_same_contents_are_the_same_objects(bucket):
    """So that a second writer of content-addressed work takes nothing from under a reader of the first one's."""
    write(at(bucket) / "d", a="one", b="two")
    before = objects(f"{bucket}/d").keys()
    another_pod()
    write(at(bucket) / "d", a="one", b="two")
    assert objects(f"{bucket}/d").keys() == before


def test_a_pod_with_a_copy_of_the_folder_before_gets_the_new_one(bucket, monkeypatch):
    write(at(bucket) / "d", a="old", b="old")
    mine = os.environ[places.WORKING]
    another_pod()
    write(at(bucket) / "d", a="new")
    monkeypatch.setenv(places.WORKING, mine)
    assert {file.name for file in fetch(at(bucket) / "d").iterdir()} == {"a", "manifest.json"}
    assert (at(bucket) / "d" / "a").read_text() == "new"


def test_a_folder_made_elsewhere_is_moved_there(bucket, tmp_path):
    write(tmp_path / "made", a="here")
    move_directory(tmp_path / "made", at(bucket) / "d")
    assert not (tmp_path / "made").exists()
    assert read(f"{bucket}/d") == {"a": "here"}


def test_what_a_killed_writer_left_goes_with_the_next_write_but_never_what_one_may_be_writing(bucket, monkeypatch):
    put(f"{bucket}/d/0123456789abcdef/a", b"of a writer that is at work, or was killed")
    write(at(bucket) / "d", a="one")
    assert "0123456789abcdef/a" in objects(f"{bucket}/d")
    monkeypatch.setattr(folders, "LEFT_AFTER", timedelta(seconds=-60))
    write(at(bucket) / "d", a="two")
    assert "0123456789abcdef/a" not in objects(f"{bucket}/d")
    assert read(f"{bucket}/d") == {"a": "two"}


def test_a_reader_of_the_folder_before_is_told_that_it_was_replaced(bucket):
    write(at(bucket) / "d", a="old")
    another_pod()
    directory = at(bucket) / "d"
    manifest = read_manifest(directory)
    files = places._client("s3")
    files.rm(next(key for key in files.find(f"{bucket}/d") if key.endswith("/a")))
    with pytest.raises(StoreError, match=rf"{bucket}/d was replaced while it was read"):
        fetch_listed(directory, manifest, ["a"])
    with pytest.raises(StoreError, match="was replaced"):
        read_span(directory, manifest, "a", 0, 1)


def test_a_span_is_read_and_the_rest_of_the_file_stays_where_it_is(bucket):
    write(at(bucket) / "d", a="0123456789", b="other")
    for _ in range(2):
        manifest = read_manifest(at(bucket) / "d")
        assert read_span(at(bucket) / "d", manifest, "a", 3, 4) == b"3456"
        another_pod()
    read_span(at(bucket) / "d", read_manifest(at(bucket) / "d"), "a", 3, 4)
    assert here() == ["manifest.json"]


SHARD = """
import sys, pyarrow as pa
from imprint.data.tables import write_table
from imprint.storage import at
schema = pa.schema([("shard", pa.int64())])
root, shard = at(sys.argv[1]), int(sys.argv[2])
for turn in range(2):
    rows = [pa.RecordBatch.from_pylist([{"shard": shard}] * (turn + 1), schema=schema)]
    write_table(root / "scores" / f"shard-{shard}", rows, schema)
    write_table(root / "same", [pa.RecordBatch.from_pylist([{"shard": -turn}], schema=schema)], schema)
"""


def test_shards_side_by_side_do_not_clash(bucket):
    """Processes that share nothing but the bucket, each replacing a table of its own, and one that both make alike."""
    pods = [subprocess.Popen([sys.executable, "-c", SHARD, bucket, str(shard)]) for shard in range(2)]
    assert [pod.wait() for pod in pods] == [0, 0]
    for shard in range(2):
        rows = open_table(at(bucket) / "scores" / f"shard-{shard}").to_table().to_pylist()
        assert rows == [{"shard": shard}] * 2
        assert len(objects(f"{bucket}/scores/shard-{shard}")) == 2
    assert open_table(at(bucket) / "same").to_table().to_pylist() in ([{"shard": -turn}] for turn in range(2))


def batch(first, rows):
    names = [{"name": f"n{number}", "number": number} for number in range(first, first + rows)]
    return pa.RecordBatch.from_pylist(names, schema=SCHEMA)


def numbers(path, **choice):
    return [one.column("number").to_pylist() for one in read_batches(path, **choice)]


def test_a_table_is_read_where_it_lies(bucket, tmp_path):
    import pyarrow.compute as pc

    for root in (at(bucket), tmp_path):
        write_table(root / "t", [batch(0, 3), batch(3, 5)], SCHEMA, part_rows=3)
    another_pod()
    table = open_table(at(bucket) / "t")
    assert numbers(at(bucket) / "t") == numbers(tmp_path / "t") == [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert numbers(at(bucket) / "t", names=["part-00001"]) == [[3, 4, 5, 6, 7]]
    assert table.to_table(filter=pc.field("number") > 5).column("name").to_pylist() == ["n6", "n7"]
    assert opened_fingerprint(table) == opened_fingerprint(open_table(tmp_path / "t"))
    assert here() == ["manifest.json"], "no part was downloaded"


def test_a_table_without_its_manifest_or_with_a_part_that_is_cut_is_not_read(bucket):
    write_table(at(bucket) / "t", [batch(0, 3)], SCHEMA)
    (part,) = (name for name in objects(f"{bucket}/t") if name.endswith(".parquet"))
    put(f"{bucket}/t/{part}", objects(f"{bucket}/t")[part][:-1])
    with pytest.raises(StoreError, match=rf"'part-00000.parquet' of the table {bucket}/t is absent or not"):
        open_table(at(bucket) / "t")
    places._client("s3").rm(f"{bucket}/t/manifest.json")
    with pytest.raises(UnfinishedStoreError, match=rf"the table {bucket}/t has no"):
        read_batches(at(bucket) / "t")
