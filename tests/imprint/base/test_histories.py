"""Which rows reach whom (invariant 1): the index decides, never what is on disk."""

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from imprint.base.histories import all_rows, background_rows, read_histories, users_of

INDEX = [
    {"user_id": "u1", "role": "background"},
    {"user_id": "u2", "role": "pilot"},
    {"user_id": "u3", "role": "reported"},
]


@pytest.fixture
def table():
    """Four users of six rows each: three train, one validation, two test. u4 is on disk and in no index."""
    rows = [
        {
            "user_id": user,
            "record_id": f"{user}-{order}",
            "query": "q",
            "response": f"r{order}",
            "persona": ["likes tea"] if user == "u3" else None,
            "order": order,
            "attributes": [("item", f"i{order}")] if user == "u3" else None,
            "split": split,
            "task": "rating" if order else "dialogue",
        }
        for user in ("u1", "u2", "u3", "u4")
        for order, split in enumerate(["train", "train", "train", "validation", "test", "test"])
    ]
    texts = [(name, pa.string()) for name in ("user_id", "record_id", "query", "response", "split", "task")]
    kinds = {"persona": pa.list_(pa.string()), "order": pa.int64(), "attributes": pa.map_(pa.string(), pa.string())}
    return pads.InMemoryDataset(pa.Table.from_pylist(rows, schema=pa.schema([*texts, *kinds.items()])))


def test_a_users_rows_are_theirs_alone_of_the_splits_asked_for_and_in_order(table):
    histories = read_histories(table, INDEX, "train", "validation")

    assert list(histories) == ["u1", "u2", "u3"]
    for user_id, rows in histories.items():
        assert {row.user_id for row in rows} == {user_id}
        assert [row.record_id for row in rows] == [f"{user_id}-{order}" for order in range(4)]
    assert histories["u3"][0].persona == ("likes tea",)
    assert [row.order for row in histories["u3"]] == [0, 1, 2, 3]
    assert histories["u3"][2].attributes == (("item", "i2"),)
    assert histories["u1"][2].attributes == ()
    assert [row.task for row in histories["u2"]] == ["dialogue", "rating", "rating", "rating"]


def test_who_is_on_disk_and_not_in_the_index_is_not_read(table):
    assert "u4" not in {row.user_id for row in all_rows(read_histories(table, INDEX, "train", "validation", "test"))}


def test_a_user_without_rows_has_an_empty_history(table):
    assert read_histories(table, [{"user_id": "u9"}], "train") == {"u9": []}


def test_the_base_is_trained_on_background_users_training_rows(table):
    assert {row.user_id for row in background_rows(table, INDEX, enough=3)} == {"u1"}


def test_too_few_background_rows_bring_in_everybodys_training_rows_and_never_another_split(table):
    rows = background_rows(table, INDEX, enough=4)

    assert {row.user_id for row in rows} == {"u1", "u2", "u3"}
    assert {row.record_id.split("-")[1] for row in rows} == {"0", "1", "2"}


def test_roles_keep_the_indexs_order():
    assert [row["user_id"] for row in users_of(INDEX, "reported", "pilot")] == ["u2", "u3"]
