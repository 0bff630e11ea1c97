"""Partition gives each user one role and one shard, cuts each history by time, and loses no row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pydantic
import pytest

from imprint.data import partition as module
from imprint.data.partition import PartitionSettings, assign_roles, canonical_row, partition, shard_of, split_sizes
from imprint.data.tables import read_batches
from imprint.errors import CorpusError, NotEnoughDataError, RowsLostError, StoreError
from imprint.provenance import fingerprint_of_rows
from imprint.schema import SPLITS, interactions_schema, partitioned_schema, user_index_schema

SMALL = PartitionSettings(shards=3, min_interactions=10, pilot_users=2, max_users=None)
Row = dict[str, Any]


def user(name: str) -> str:
    return "u" + hashlib.sha256(name.encode()).hexdigest()[:16]


def history(user_id: str, rows: int) -> list[Row]:
    """Orders have holes, as where rows were quarantined."""
    plain = {
        "user_id": user_id,
        "corpus": "c",
        "task": "dialogue",
        "query": "And?",
        "persona": None,
        "attributes": None,
    }
    return [
        {**plain, "record_id": f"{user_id}-{n}", "time": n, "order": 3 * n + 1, "response": f"{user_id} says {n}"}
        for n in range(rows)
    ]


def batches_of(histories: Mapping[str, int], users_a_batch: int = 4) -> list[pa.RecordBatch]:
    users = sorted(histories)
    groups = [users[start : start + users_a_batch] for start in range(0, len(users), users_a_batch)]
    return [batch_of([row for one in group for row in history(one, histories[one])]) for group in groups]


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=interactions_schema())


def crowd(dense: int = 9, sparse: int = 6) -> dict[str, int]:
    """Dense users of 10 rows and more, and sparse ones of 1, 2, … rows."""
    many = {user(f"dense {n}"): 10 + 3 * n for n in range(dense)}
    return many | {user(f"sparse {n}"): 1 + n for n in range(sparse)}


def run(batches: Any, where: Path, settings: PartitionSettings = SMALL) -> dict[str, Any]:
    return partition(batches, settings, interactions=where / "interactions", users=where / "users")


def rows_of(table: Path) -> list[Row]:
    return [row for batch in read_batches(table) for row in batch.to_pylist()]


def faults(rows: Sequence[Row], index: Sequence[Row]) -> list[str]:
    """What is wrong with a partition, as sentences; none when it keeps its promises."""
    found = [f"{one} is in the index {n} times" for one, n in Counter(row["user_id"] for row in index).items() if n > 1]
    for entry in index:
        own = [row for row in rows if row["user_id"] == entry["user_id"]]
        if len({row["shard"] for row in own} | {entry["shard"]}) > 1:
            found.append(f"{entry['user_id']} is in two shards")
        if [row["order"] for row in own] != list(range(len(own))):
            found.append(f"{entry['user_id']} is not numbered in order")
        places = [SPLITS.index(row["split"]) for row in own]
        if places != sorted(places):
            found.append(f"{entry['user_id']} is not split by time")
        if len({row["record_id"] for row in own}) != len(own):
            found.append(f"{entry['user_id']} has a row in two splits")
        if [places.count(split) for split in range(3)] != [entry[split] for split in SPLITS]:
            found.append(f"{entry['user_id']} is counted wrongly")
    return found


@pytest.fixture
def outcome(tmp_path: Path) -> tuple[dict[str, Any], list[Row], list[Row]]:
    summary = run(batches_of(crowd()), tmp_path)
    return summary, rows_of(tmp_path / "interactions"), rows_of(tmp_path / "users")


def test_users_and_splits_are_disjoint_chronological_and_counted(outcome: Any) -> None:
    _, rows, index = outcome
    assert faults(rows, index) == []
    times: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        times.setdefault((row["user_id"], row["split"]), []).append(row["time"])
    dense = [entry["user_id"] for entry in index if entry["role"] != "background"]
    for one in dense:
        assert max(times[one, "train"]) < min(times[one, "validation"])
        assert max(times[one, "validation"]) < min(times[one, "test"])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda rows, index: index.append({**index[0], "role": "pilot"}), "in the index 2 times"),
        (lambda rows, index: rows[0].update(shard=rows[0]["shard"] + 1), "two shards"),
        (lambda rows, index: rows[0].update(order=1), "not numbered"),
        (lambda rows, index: rows[0].update(split="test"), "not split by time"),
        (lambda rows, index: rows[1].update(record_id=rows[0]["record_id"]), "row in two splits"),
        (lambda rows, index: index[0].update(train=99), "counted wrongly"),
    ],
)
def test_the_check_of_these_promises_can_fail(outcome: Any, spoil: Any, says: str) -> None:
    _, rows, index = outcome
    longest = max(index, key=lambda entry: entry["train"])["user_id"]
    rows = [row for row in rows if row["user_id"] == longest]
    index = [entry for entry in index if entry["user_id"] == longest]
    spoil(rows, index)
    assert any(says in fault for fault in faults(rows, index))


def test_rows_and_users_add_up(outcome: Any) -> None:
    summary, rows, index = outcome
    assert len(rows) == summary["rows_in"] == sum(crowd().values())
    assert {row["response"] for row in rows} == {
        row["response"] for one in crowd() for row in history(one, crowd()[one])
    }
    assert summary["users"] == {"background": 6, "pilot": 2, "reported": 7}
    assert summary["users"] == dict(Counter(entry["role"] for entry in index))
    assert sum(summary["rows"]["background"].values()) == 1 + 2 + 3 + 4 + 5 + 6
    assert summary["rows"]["background"] == {"train": 21, "validation": 0, "test": 0}
    for part, counts in summary["shards"].items():
        own = [entry for entry in index if part == f"shard-{entry['shard']:05d}"]
        assert counts["users"] == len(own)
        assert counts["rows"] == sum(entry[split] for entry in own for split in SPLITS)
        assert counts["memories"] == sum(entry["role"] in ("pilot", "reported") for entry in own)


def test_the_tables_follow_their_schemas_a_sorted_part_for_each_shard(tmp_path: Path) -> None:
    run(batches_of(crowd()), tmp_path)
    for shard in range(SMALL.shards):
        part = read_batches(tmp_path / "interactions", names=[f"shard-{shard:05d}"])
        rows = [row for batch in part for row in batch.to_pylist()]
        assert {row["shard"] for row in rows} == {shard}
        keys = [(row["user_id"], row["order"]) for row in rows]
        assert keys == sorted(keys)
        assert all(batch.schema.equals(partitioned_schema()) for batch in part)
    users = [row["user_id"] for row in rows_of(tmp_path / "users")]
    assert users == sorted(crowd())
    assert all(batch.schema.equals(user_index_schema()) for batch in read_batches(tmp_path / "users"))


def test_a_shard_without_users_has_an_empty_part(tmp_path: Path) -> None:
    summary = run(batches_of(crowd(4, 0)), tmp_path, SMALL.model_copy(update={"shards": 64}))
    assert len(list((tmp_path / "interactions").glob("shard-*.parquet"))) == len(summary["shards"]) == 64


def test_adding_users_moves_nobody_and_changes_no_split_but_with_the_role(tmp_path: Path) -> None:
    few, more = crowd(8, 3), crowd(30, 12)
    settings = SMALL.model_copy(update={"max_users": 6})
    run(batches_of(few), tmp_path / "few", settings)
    run(batches_of(more, users_a_batch=7), tmp_path / "more", settings)
    before, after = ({one["user_id"]: one for one in rows_of(tmp_path / name / "users")} for name in ("few", "more"))
    kept = {one for one in few if len({index[one]["role"] == "background" for index in (before, after)}) == 1}
    place = {row["record_id"]: row for row in rows_of(tmp_path / "more" / "interactions")}
    assert 0 < len(kept) < len(few)
    for row in rows_of(tmp_path / "few" / "interactions"):
        same = ("shard", "order", "split") if row["user_id"] in kept else ("shard", "order")
        assert [place[row["record_id"]][key] for key in same] == [row[key] for key in same]
    assert all(after[one]["fingerprint"] == before[one]["fingerprint"] for one in kept)


def test_rows_out_of_order_in_a_batch_are_sorted_by_order(tmp_path: Path) -> None:
    plain = batches_of(crowd())
    run([batch_of(batch.to_pylist()[::-1]) for batch in plain], tmp_path / "a")
    run(plain, tmp_path / "b")
    assert rows_of(tmp_path / "a" / "interactions") == rows_of(tmp_path / "b" / "interactions")


def test_the_fingerprint_is_of_the_training_rows_alone(tmp_path: Path) -> None:
    run(batches_of(crowd()), tmp_path)
    rows = rows_of(tmp_path / "interactions")
    for entry in rows_of(tmp_path / "users"):
        train = [row for row in rows if row["user_id"] == entry["user_id"] and row["split"] == "train"]
        texts = [canonical_row(row["record_id"], row["query"], row["response"]) for row in train]
        assert entry["fingerprint"] == fingerprint_of_rows(texts)


def test_canonical_rows_do_not_run_together() -> None:
    assert canonical_row("r", "ab", "c") != canonical_row("r", "a", "bc")


@pytest.mark.parametrize(("rows", "sizes"), [(7, (5, 1, 1)), (20, (14, 3, 3)), (100, (70, 15, 15))])
def test_shares_are_rounded_down_and_never_to_nothing(rows: int, sizes: tuple[int, int, int]) -> None:
    assert split_sizes(rows, "pilot", SMALL) == split_sizes(rows, "reported", SMALL) == sizes


@pytest.mark.parametrize("shares", [(0.5, 0.1), (0.1, 0.5), (0.3, 0.3), (0.001, 0.001), (0.29, 0.07)])
def test_every_history_that_is_split_has_rows_in_all_splits(shares: tuple[float, float]) -> None:
    settings = PartitionSettings(validation_share=shares[0], test_share=shares[1])
    for rows in range(7, 500):
        sizes = split_sizes(rows, "reported", settings)
        assert (min(sizes) >= 1, sum(sizes)) == (True, rows)
    assert split_sizes(100, "pilot", settings)[1] == max(1, round(100 * shares[0]))


def test_the_sample_of_users_does_not_depend_on_history_length() -> None:
    counts = crowd(30)
    roles, left = assign_roles(counts, SMALL.model_copy(update={"max_users": 10}))
    longer = {one: rows * 7 if one in roles else rows for one, rows in counts.items()}
    assert assign_roles(longer, SMALL.model_copy(update={"max_users": 10}))[0] == roles
    assert Counter(roles.values()) == {"pilot": 2, "reported": 8}
    assert left == 20


def test_users_not_taken_join_the_background_who_teach_with_all_their_rows(tmp_path: Path) -> None:
    summary = run(batches_of(crowd(9, 6)), tmp_path, SMALL.model_copy(update={"max_users": 5}))
    assert summary["not_selected"] == 4
    assert summary["users"] == {"background": 10, "pilot": 2, "reported": 3}
    rows = sum(crowd(9, 6).values()) - sum(sum(summary["rows"][role].values()) for role in ("pilot", "reported"))
    assert summary["rows"]["background"] == {
        "train": rows,
        "validation": 0,
        "test": 0,
    }  # nor are long ones split


@pytest.mark.parametrize("histories", [{}, {user("only"): 400}, crowd(3, 6), crowd(0, 6)])
def test_too_few_users_are_refused_with_the_distribution(tmp_path: Path, histories: dict[str, int]) -> None:
    with pytest.raises(NotEnoughDataError) as error:
        run(batches_of(histories), tmp_path)
    dense = sum(rows >= 10 for rows in histories.values())
    longest = max(histories.values(), default=0)
    for part in (f"{dense} of {len(histories)} users", f"max {longest},", "median", ">= 25:"):
        assert part in str(error.value)
    assert "lower partition.min_interactions" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_four_dense_users_are_enough_for_two_pilots(tmp_path: Path) -> None:
    assert run(batches_of(crowd(4, 0)), tmp_path)["users"]["reported"] == 2


def test_a_user_split_over_batches_or_out_of_order_is_refused(tmp_path: Path) -> None:
    one, two = sorted(crowd(2, 0))
    split = [batch_of(history(one, 10)[:5]), batch_of(history(one, 10)[5:])]
    backwards = [batch_of(history(two, 10)), batch_of(history(one, 10))]
    for batches in (split, backwards):
        with pytest.raises(CorpusError, match="whole users in ascending user_id"):
            run(batches, tmp_path)


def test_unvalidated_users_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="None"):
        run([batch_of([{**history("x", 1)[0], "user_id": None}])], tmp_path)
    with pytest.raises(CorpusError, match="16 hexadecimal"):
        shard_of("casual_nick", 4)
    assert shard_of("u00000000000000ff", 16) == 15


def test_an_iterator_is_refused_because_it_cannot_be_read_twice(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="twice"):
        run(iter(batches_of(crowd())), tmp_path)


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="persona"):
        run([batch.drop_columns(["persona"]) for batch in batches_of(crowd())], tmp_path)


def test_a_lost_row_is_an_error_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = module._count
    monkeypatch.setattr(module, "_count", lambda batches: {**count(batches), user("ghost"): 1})
    with pytest.raises(RowsLostError, match="partition"):
        run(batches_of(crowd()), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"validation_share": 0.0}, "validation_share"),
        ({"test_share": 1.5}, "test_share"),
        ({"validation_share": 0.4, "test_share": 0.4}, "at most 0.6"),
        ({"min_interactions": 2}, "min_interactions"),
        ({"min_interactions": 7, "validation_share": 0.3, "test_share": 0.3}, "leave 3 rows to train on.*Next: raise"),
        ({"shards": 0}, "shards"),
        ({"pilot_users": 0}, "pilot_users"),
        ({"pilot_users": 8, "max_users": 9}, "set max_users to 10"),
        ({"shard": 4}, "shard"),
    ],
)
def test_settings_out_of_range_or_unknown_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=says):
        PartitionSettings(**settings)
