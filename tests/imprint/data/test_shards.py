"""One shard at a time: which there are, which a process does, and that nothing of another is read."""

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from imprint.data.shards import (
    count_users,
    only_shards,
    shards_at_hand,
    shards_with_memories,
    users_in,
    users_named,
    users_with,
)
from imprint.data.tables import new_table, open_table
from imprint.errors import SettingsError

NAMES = ["shard-00000", "shard-00002"]
USERS = [
    ("u1", 0, "pilot"),
    ("u2", 2, "reported"),
    ("u3", 0, "reported"),
    ("u4", 1, "background"),
    ("u5", 2, "reported"),
]


@pytest.fixture
def index():
    rows = [dict(zip(("user_id", "shard", "role"), user, strict=True)) for user in USERS]
    schema = pa.schema([("user_id", pa.string()), ("shard", pa.int32()), ("role", pa.string())])
    return pads.dataset(pa.Table.from_pylist(rows, schema=schema))


def test_shards_without_a_memory_are_no_work_for_anybody():
    counts = {"shard-00000": 2, "shard-00001": 0, "shard-00002": 1}
    summary = {"shards": {name: {"users": 9, "memories": count} for name, count in counts.items()}}
    assert shards_with_memories(summary) == NAMES


def test_a_process_does_every_shard_or_the_one_it_was_given():
    assert shards_at_hand(NAMES, None) == NAMES
    assert shards_at_hand(NAMES, "shard-00002") == ["shard-00002"]


@pytest.mark.parametrize("shard", ["shard-00001", "2", ""])
def test_a_shard_that_is_not_there_is_refused_by_name(shard):
    with pytest.raises(SettingsError, match=f"shard: '{shard}' given; allowed are .*shard-00000, shard-00002"):
        shards_at_hand(NAMES, shard)


def test_of_many_shards_a_message_names_a_few():
    with pytest.raises(SettingsError) as refusal:
        shards_at_hand([f"shard-{number:05d}" for number in range(10_000)], "shard-1")
    assert "shard-00004, … shard-09999" in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_a_shards_users_are_its_own_in_the_indexs_order(index):
    assert [user["user_id"] for user in users_in(index, "shard-00002")] == ["u2", "u5"]
    assert [user["user_id"] for user in users_in(index, "shard-00003")] == []


def test_the_users_of_a_role_are_in_the_indexs_order_all_or_the_first(index):
    assert [user["user_id"] for user in users_with(index, "reported")] == ["u2", "u3", "u5"]
    assert [user["user_id"] for user in users_with(index, "reported", 2)] == ["u2", "u3"]
    assert users_with(index, "reported", 0) == []


def test_users_are_found_by_name_in_the_indexs_order_and_strangers_are_not(index):
    assert [(user["user_id"], user["shard"]) for user in users_named(index, {"u5", "u1", "nobody"})] == [
        ("u1", 0),
        ("u5", 2),
    ]
    assert users_named(index, set()) == []


def test_users_are_counted_by_shard_and_role(index):
    assert count_users(index, NAMES, "pilot", "reported") == {"shard-00000": 2, "shard-00002": 2}
    assert count_users(index, [*NAMES, "shard-00007"], "pilot") == {
        "shard-00000": 1,
        "shard-00002": 0,
        "shard-00007": 0,
    }


def test_only_the_parts_of_these_shards_are_opened(tmp_path):
    """The parts of the others could be unreadable: they are another worker's."""
    schema = pa.schema([("user_id", pa.string()), ("shard", pa.int32())])
    with new_table(tmp_path / "table", schema, names=[f"shard-{number:05d}" for number in range(3)]) as table:
        for user_id, shard, _ in USERS:
            table.write(
                pa.RecordBatch.from_pylist([{"user_id": user_id, "shard": shard}], schema=schema), f"shard-{shard:05d}"
            )
    whole = open_table(tmp_path / "table")
    (tmp_path / "table" / "shard-00001.parquet").write_bytes(b"unreadable")

    assert only_shards(whole, {2}).to_table().column("user_id").to_pylist() == ["u2", "u5"]
    assert only_shards(whole, [2, 0]).to_table().column("user_id").to_pylist() == ["u1", "u3", "u2", "u5"]


def test_a_table_without_parts_by_shard_is_taken_whole(tmp_path, index):
    assert only_shards(index, {2}) is index
    with new_table(tmp_path / "numbered", index.schema) as table:
        table.write(index.to_table().to_batches()[0])
    numbered = open_table(tmp_path / "numbered")
    assert only_shards(numbered, {2}) is numbered
