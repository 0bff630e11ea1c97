"""Ingest: pseudonyms, order, masks, reports; every row comes out, whatever it looks like."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError

from imprint.corpora import Corpus, CorpusSettings, open_corpus
from imprint.data.ingest import IngestSettings, ingest
from imprint.data.masking import KnownNames, Masker
from imprint.data.pseudonyms import name_hash, pseudonym
from imprint.errors import RowsLostError
from imprint.schema import ingested_schema

KEY = bytes(range(32))
REAL = os.environ.get("IMPRINT_REAL_DATA")


def row(user="wren", response="yes", **more):
    return {"user_id": user, "query": "so?", "response": response, **more}


def jsonl(folder, *lines, **settings):
    path = folder / "chat.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return open_corpus(CorpusSettings(format="jsonl", path=str(path), name="chat", **settings))


def ingested(corpus, workspace, **settings):
    """Batches, rows and report; checks what holds for every ingestion."""
    batches, report, _ = ingest(corpus, IngestSettings(**settings), KEY, workspace)
    batches = list(batches)
    assert all(batch.schema == ingested_schema() for batch in batches)
    rows = [one for batch in batches for one in batch.to_pylist()]
    assert report["rows_read"] == report["rows_written"] == len(rows)
    assert list(workspace.iterdir()) == []
    return batches, rows, report


@pytest.fixture
def workspace(tmp_path):
    """The folder for spill files, which must be empty afterwards."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def test_raw_ids_do_not_leave_ingest(tmp_path, workspace):
    """Neither as ids nor as mentions nor as counterpart."""
    corpus = jsonl(
        tmp_path,
        row("wren", "kite: ask wren", query="hello @kite", persona=["I am wren."], with_="kite"),
        row("kite", "thanks"),
        attributes={"counterpart": "with_"},
    )
    _, rows, report = ingested(corpus, workspace)
    assert not {"wren", "kite"} & set(json.dumps(rows, default=str).replace('"', " ").replace(":", " ").split())
    mine = next(one for one in rows if one["user_id"] == pseudonym(KEY, "chat", "wren"))
    assert (mine["query"], mine["response"], mine["persona"]) == ("hello @user", "@user: ask @user", ["I am @user."])
    assert dict(mine["attributes"])["counterpart"] == pseudonym(KEY, "chat", "kite")
    assert report["masked_mentions"] == 4


def test_masking_can_be_turned_off(tmp_path, workspace):
    """A corpus of numbered users has nothing to mask."""
    _, rows, report = ingested(jsonl(tmp_path, row(response="ask wren")), workspace, mask_names=False)
    assert rows[0]["response"] == "ask wren"
    assert report["masked_mentions"] == 0


def test_what_ingest_knew_of_names_is_kept_hashed(tmp_path, workspace):
    """It is enough to mask a later text alike, and says nobody's name."""
    corpus = jsonl(tmp_path, row("wren"), row("Kite Crow"), row("half\ud800"))
    batches, _, known = ingest(corpus, IngestSettings(), KEY, workspace)
    list(batches)
    assert not {"wren", "kite", "crow", "half"} & set(re.findall(r"\w+", json.dumps(known).lower()))
    assert pseudonym(KEY, "chat", "wren")[1:] not in json.dumps(known)
    masker = Masker.knowing(KnownNames(**known), partial(name_hash, KEY, "chat"))
    assert masker.mask("Wren_ met kite crow at the kite") == "@user met @user at the kite"


def test_where_nothing_is_masked_no_name_is_kept(tmp_path, workspace):
    """Requests are then left alone too."""
    batches, _, known = ingest(jsonl(tmp_path, row()), IngestSettings(mask_names=False), KEY, workspace)
    list(batches)
    assert KnownNames(**known) == KnownNames(made_with=name_hash(KEY, "chat", ""))


def test_order_is_by_time_with_ties_in_source_order_and_no_time_last(tmp_path, workspace):
    """The split by time depends on it."""
    times = ["2024-01-03", "2024-01-01", None, "2024-01-02", "2024-01-01", None]
    corpus = jsonl(tmp_path, *(row(response=f"{place}", time=time) for place, time in enumerate(times)))
    _, rows, _ = ingested(corpus, workspace)
    assert [one["response"] for one in rows] == ["1", "4", "3", "0", "2", "5"]
    assert [one["order"] for one in rows] == list(range(6))


@pytest.mark.parametrize("buckets", [1, 3, 16, 64])
def test_the_number_of_buckets_changes_nothing_but_memory(tmp_path, workspace, buckets):
    """Users come in ascending order, each with a whole history, whatever the spill files."""
    corpus = jsonl(tmp_path, *(row(f"user {number % 40}", f"{number}") for number in range(400)))
    _, rows, report = ingested(corpus, workspace, buckets=buckets, mask_names=False)
    assert [one["user_id"] for one in rows] == sorted(one["user_id"] for one in rows)
    assert [one["order"] for one in rows] == list(range(10)) * 40
    assert report["users"] == 40


def test_no_user_is_split_over_two_batches(tmp_path, workspace):
    """So that a check of uniqueness within a batch is exact."""
    lines = [row("long", f"{number}") for number in range(9000)] + [row(f"u{number % 500}") for number in range(5000)]
    batches, _, _ = ingested(jsonl(tmp_path, *lines), workspace, buckets=2)
    users = [set(batch.column("user_id").to_pylist()) for batch in batches]
    assert len(batches) > 2
    assert sum(map(len, users)) == len(set.union(*users)) == 501


def test_unreadable_rows_and_rows_without_user_come_out_for_the_quarantine(tmp_path, workspace):
    """Rows in = rows out, and the report says how many of each."""
    corpus = jsonl(tmp_path, row(), b"{broken", row(user=None), "café".encode("latin-1"), row("kite"))
    _, rows, report = ingested(corpus, workspace)
    assert {name: report[name] for name in ("rows_read", "unreadable", "without_user", "without_time", "users")} == {
        "rows_read": 5,
        "unreadable": 2,
        "without_user": 3,
        "without_time": 3,
        "users": 2,
    }
    nobody = [one for one in rows if one["user_id"] is None]
    assert all(one["order"] is None for one in nobody)
    assert sorted(one["source"] for one in nobody) == ["chat.jsonl:2", "chat.jsonl:3", "chat.jsonl:4"]
    assert len({one["record_id"] for one in rows}) == 5
    assert report["kinds"] == {"read": 5, "rows without a time": 3, "unreadable": 2}


def test_duplicate_ids_pass_through(tmp_path, workspace):
    """They get one record id, by which validation finds them."""
    _, rows, _ = ingested(jsonl(tmp_path, row(id="x"), row(id="x"), row("kite", id="x")), workspace)
    assert len({one["record_id"] for one in rows}) == 2


def test_one_user_alone_is_a_corpus(tmp_path, workspace):
    """All but one bucket are empty."""
    batches, _, report = ingested(jsonl(tmp_path, row(), row()), workspace)
    assert len(batches) == 1
    assert report["users"] == 1


def test_megabyte_messages_and_control_characters_go_through(tmp_path, workspace):
    """Whole: whether they may stay is for validation to say."""
    _, rows, _ = ingested(jsonl(tmp_path, row(response="wo\x00rd " * 200_000)), workspace)
    assert rows[0]["response"] == "wo\x00rd " * 200_000


def test_every_ingestion_gives_the_same(tmp_path, workspace):
    """The same key, the same rows; another key, other ids."""
    corpus = jsonl(tmp_path, *(row(f"u{number % 7}", f"{number}") for number in range(50)))
    first, second = (ingested(corpus, workspace)[1] for _ in range(2))
    assert first == second
    other, _, _ = ingest(corpus, IngestSettings(), b"x" * 32, workspace)
    assert not {one["user_id"] for one in first} & {one for batch in other for one in batch["user_id"].to_pylist()}


def test_a_lost_row_stops_the_run(tmp_path, workspace, monkeypatch):
    """The guard itself, with a bucket that forgets a row."""
    from imprint.data import ingest as module

    honest = module._sorted_bucket
    monkeypatch.setattr(module, "_sorted_bucket", lambda *given: (batch.slice(1) for batch in honest(*given)))
    with pytest.raises(RowsLostError, match="read 2 rows of corpus 'chat' and wrote 1"):
        ingested(jsonl(tmp_path, row(), row()), workspace)
    assert list(workspace.iterdir()) == []


class Breaking(Corpus):
    """A corpus whose source fails in the middle of a pass."""

    def batches(self):
        """One batch, then a broken disk."""
        yield from super().batches()
        raise OSError("the disk is gone")


def test_spill_files_are_removed_on_errors(tmp_path, workspace):
    """They hold pseudonymised text that nobody would look for."""
    whole = jsonl(tmp_path, row())
    batches, _, _ = ingest(Breaking(whole.settings, whole._reader), IngestSettings(mask_names=False), KEY, workspace)
    with pytest.raises(OSError, match="disk is gone"):
        list(batches)
    assert list(workspace.iterdir()) == []


def test_spill_files_are_removed_when_nobody_reads_on(tmp_path, workspace):
    """A run that stops at the first batch leaves nothing behind."""
    batches, _, _ = ingest(jsonl(tmp_path, row(), row("kite")), IngestSettings(), KEY, workspace)
    next(batches)
    assert list(workspace.iterdir()) != []
    batches.close()
    assert list(workspace.iterdir()) == []


class Watched(Corpus):
    """A corpus that notes how much Arrow memory is in use whenever the next batch is asked for."""

    most = 0

    def batches(self):
        """The batches of the corpus, watched."""
        for batch in super().batches():
            yield batch
            self.watch()

    def watch(self):
        """Keep the highest reading."""
        import pyarrow as pa

        self.most = max(self.most, pa.total_allocated_bytes())


def test_memory_does_not_grow_with_the_corpus(tmp_path, workspace):
    """Four times the rows, in four times the buckets, at the same peak."""

    def peak(rows, buckets):
        whole = jsonl(tmp_path, *(row(f"u{number % 997}", "word " * 100) for number in range(rows)))
        corpus = Watched(whole.settings, whole._reader)
        for _ in ingest(corpus, IngestSettings(buckets=buckets, mask_names=False), KEY, workspace)[0]:
            corpus.watch()
        return corpus.most

    assert peak(50_000, 64) < 1.5 * peak(12_500, 16)


@pytest.mark.parametrize("bad", [{"buckets": 0}, {"bucket": 4}, {"mask_names": "perhaps"}])
def test_bad_settings_are_refused(bad):
    """Before anything is read."""
    with pytest.raises(ValidationError):
        IngestSettings(**bad)


def test_the_fabricated_corpus_is_ingested_without_a_mask(workspace):
    """Its users have no names in text, so nothing is taken out of it."""
    corpus = open_corpus(
        CorpusSettings(format="fabricated", fabricate={"users": 4, "interactions": 20, "background_users": 2})
    )
    _, rows, report = ingested(corpus, workspace)
    assert (report["users"], report["masked_mentions"]) == (6, 0)
    assert all(one["time"] for one in rows)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="IMPRINT_REAL_DATA is not set: the public corpora are not on this machine")
@pytest.mark.parametrize(("kind", "folder"), [("medqa", "lasseregin-medqa"), ("msc", "msc")])
def test_real_corpora_go_through_whole(kind, folder, workspace):
    """Every record id is unique, every user whole."""
    corpus = open_corpus(CorpusSettings(format=kind, path=str(Path(REAL or "") / folder)))
    batches, rows, report = ingested(corpus, workspace)
    assert len({one["record_id"] for one in rows}) == len(rows)
    users = [set(batch.column("user_id").drop_null().to_pylist()) for batch in batches]
    assert sum(map(len, users)) == report["users"]
