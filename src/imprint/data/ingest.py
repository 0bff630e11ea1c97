"""Ingest: any corpus to `interactions` before validation: pseudonyms, masked mentions, one order for each user.

Passes over the corpus: the names of its users; how those names occur in text; the rows. The rows are spilled to files
by the leading hex digits of the pseudonym and sorted one file at a time, so memory holds the names and one bucket
(about corpus / `buckets`), never the corpus. Raw ids do not leave this module.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from imprint.corpora import Corpus
from imprint.data.masking import KnownNames, Masker
from imprint.data.pseudonyms import name_hash, pseudonym, record_id
from imprint.errors import RowsLostError
from imprint.schema import ingested_schema

if TYPE_CHECKING:
    import pyarrow as pa

    Watch = Callable[[Iterable[pa.RecordBatch], str, int | None], Iterable[pa.RecordBatch]]

BATCH_ROWS = 4096
_SPILL = "ingest-"
_HEX_DIGITS = 4  # of the pseudonym, that choose the bucket
_POSITION = "position"  # of a row in the source: the last word on its order


class IngestSettings(BaseModel):
    """How a corpus becomes interactions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mask_names: bool = Field(True, description="Replace mentions of known users in text by @user.")
    buckets: int = Field(16, ge=1, le=4096, description="Spill files; memory holds one of them at a time.")


def unwatched(batches: Iterable[pa.RecordBatch], title: str, rows: int | None) -> Iterable[pa.RecordBatch]:
    """The batches as they are: what a caller who draws a progress bar gives something else for."""
    return batches


def ingest(
    corpus: Corpus, settings: IngestSettings, key: bytes, workspace: Path, watch: Watch = unwatched
) -> tuple[Iterator[pa.RecordBatch], dict[str, Any], dict[str, Any]]:
    """The corpus as record batches in `schema.ingested_schema()`, a report, and the `KnownNames` that were masked.

    The two records are complete after the last batch.

    Rows come sorted by user_id, rows without user last in the first bucket. `order` counts from 0 within a user: by
    time, rows without time last, ties in source order; null without user. No user is split over two batches.
    Spill files live in a folder inside `workspace` that is removed at the end, on errors too.

    `watch(batches, title, rows)` is put around every long pass and yields the same batches; `rows` is their number
    where it is known by then.

    The report: corpus, rows_read, rows_written, unreadable, without_user, without_time, users, masked_mentions, kinds
    (what the reader counted). Raises `RowsLostError` if a row went missing on the way.
    """
    report: dict[str, Any] = {
        "corpus": corpus.name,
        "rows_read": 0,
        "rows_written": 0,
        "unreadable": 0,
        "without_user": 0,
        "without_time": 0,
        "users": 0,
        "masked_mentions": 0,
        "kinds": {},
    }
    known = KnownNames(made_with=name_hash(key, corpus.name, "")).model_dump(mode="json")
    return _batches(corpus, settings, key, workspace, report, known, watch), report, known


def _batches(
    corpus: Corpus,
    settings: IngestSettings,
    key: bytes,
    workspace: Path,
    report: dict[str, Any],
    known: dict[str, Any],
    watch: Watch,
) -> Iterator[pa.RecordBatch]:
    masker, seen = _learnt_masker(corpus, watch) if settings.mask_names else (None, None)
    if masker is not None:
        known |= masker.known_names(partial(name_hash, key, corpus.name)).model_dump(mode="json")
    workspace.mkdir(parents=True, exist_ok=True)
    for left in workspace.glob(f"{_SPILL}*"):  # by a run that was killed; it holds people's words
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SPILL, dir=workspace) as folder:
        files = [Path(folder) / f"{bucket:04d}.arrow" for bucket in range(settings.buckets)]
        _spill(watch(corpus.batches(), "ingest", seen), corpus.name, key, masker, files, report)
        for file in files:
            for batch in _sorted_bucket(file, report):
                report["rows_written"] += batch.num_rows
                yield batch
    report["masked_mentions"] = masker.masked if masker else 0
    report["kinds"] = dict(sorted(corpus.counts.items()))
    if report["rows_read"] != report["rows_written"]:
        raise RowsLostError(
            f"ingest read {report['rows_read']} rows of corpus {corpus.name!r} and wrote {report['rows_written']}. "
            "Next: report this as a defect of Imprint; the rows written so far must not be used."
        )


def _learnt_masker(corpus: Corpus, watch: Watch) -> tuple[Masker, int]:
    """Two passes: whom to mask, and which of those names are ordinary words; and the rows there are.

    Only responses are read, for in a dialogue each query is another row's response.
    """
    masker, rows = Masker(corpus.user_names()), 0
    for batch in watch(corpus.batches(), "ingest: names in text", None):
        for text in batch.column("response").to_pylist():
            if text:
                masker.learn(text)
        rows += batch.num_rows
    return masker, rows


def _spill(
    batches: Iterable[pa.RecordBatch],
    corpus: str,
    key: bytes,
    masker: Masker | None,
    files: list[Path],
    report: dict[str, Any],
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = _spill_schema()
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_file(file, schema)) for file in files]
        for raw in batches:
            batch = _pseudonymised(raw, corpus, key, masker, report["rows_read"])
            report["rows_read"] += batch.num_rows
            readable = pc.is_null(batch.column("problem"))
            report["unreadable"] += batch.num_rows - readable.true_count
            report["without_user"] += batch.column("user_id").null_count
            report["without_time"] += pc.and_(readable, pc.is_null(batch.column("time"))).true_count
            by_bucket: dict[int, list[int]] = {}
            for row, user_id in enumerate(batch.column("user_id").to_pylist()):
                by_bucket.setdefault(_bucket_of(user_id, len(files)), []).append(row)
            for bucket, rows in by_bucket.items():
                writers[bucket].write_batch(batch.take(pa.array(rows)))


def _bucket_of(user_id: str | None, buckets: int) -> int:
    """Leading hex digits, so that buckets follow the order of user_id; rows without user go to the first."""
    return 0 if user_id is None else int(user_id[1 : 1 + _HEX_DIGITS], 16) * buckets // 16**_HEX_DIGITS


def _spill_schema() -> pa.Schema:
    """`ingested_schema` with plain strings for dictionaries (which an IPC file fixes at the first batch)."""
    import pyarrow as pa

    fields = [pa.field(one.name, pa.string()) if pa.types.is_dictionary(one.type) else one for one in ingested_schema()]
    return pa.schema([*fields, (_POSITION, pa.int64())])


def _pseudonymised(raw: pa.RecordBatch, corpus: str, key: bytes, masker: Masker | None, start: int) -> pa.RecordBatch:
    """`raw` with pseudonyms and masked texts, `order` still null; `start` is the position of its first row."""
    import pyarrow as pa

    users = raw.column("user").to_pylist()
    sources = raw.column("source_id").to_pylist()
    attributes = [
        None if row is None else [(name, _attribute(name, value, corpus, key, masker)) for name, value in row]
        for row in raw.column("attributes").to_pylist()
    ]
    columns: dict[str, Any] = {
        "user_id": [None if user is None else pseudonym(key, corpus, user) for user in users],
        "record_id": [record_id(key, corpus, user, source) for user, source in zip(users, sources, strict=True)],
        "corpus": [corpus] * raw.num_rows,
        "task": raw.column("task"),
        "time": raw.column("time"),
        "order": [None] * raw.num_rows,
        "query": _masked(raw.column("query"), masker),
        "response": _masked(raw.column("response"), masker),
        "persona": _masked_lists(raw.column("persona"), masker),
        "attributes": attributes,
        "source": raw.column("where"),
        "problem": raw.column("problem"),
        _POSITION: range(start, start + raw.num_rows),
    }
    schema = _spill_schema()
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, one.type)
        for one, column in ((one, columns[one.name]) for one in schema)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _attribute(name: str, value: str | None, corpus: str, key: bytes, masker: Masker | None) -> str | None:
    """A counterpart under their pseudonym, a dialogue (its id may lead to a person) likewise; the rest masked.

    Two rows still share a dialogue exactly where they did.
    """
    if not value:
        return value
    if name == "counterpart":
        return pseudonym(key, corpus, value)
    if name == "dialogue":
        return "d" + pseudonym(key, corpus, f"dialogue:{value}")[1:]
    return masker.mask(value) if masker else value


def _masked(column: pa.Array, masker: Masker | None) -> Any:
    if masker is None:
        return column
    return [text and masker.mask(text) for text in column.to_pylist()]


def _masked_lists(column: pa.Array, masker: Masker | None) -> Any:
    if masker is None:
        return column
    return [None if lines is None else [masker.mask(line) for line in lines] for lines in column.to_pylist()]


def _sorted_bucket(file: Path, report: dict[str, Any]) -> Iterator[pa.RecordBatch]:
    """One bucket by user, time and source position, with `order`, in batches that keep each user together."""
    import pyarrow as pa

    with pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    if table.num_rows == 0:
        return
    table = table.sort_by([(name, "ascending") for name in ("user_id", "time", _POSITION)])
    users = table.column("user_id").to_pylist()
    orders, starts = _orders(users)
    report["users"] += sum(users[start] is not None for start in starts)
    ordered = table.set_column(table.schema.get_field_index("order"), "order", pa.array(orders, pa.int64()))
    done = ordered.drop_columns([_POSITION]).cast(ingested_schema())
    for first, last in _spans(starts, len(users)):
        yield from done.slice(first, last - first).combine_chunks().to_batches()


def _orders(users: list[str | None]) -> tuple[list[int | None], list[int]]:
    """Position within the user for each row of sorted `users`, and the rows at which a user begins."""
    orders: list[int | None] = []
    starts: list[int] = []
    for row, user in enumerate(users):
        if row == 0 or user != users[row - 1]:
            starts.append(row)
        orders.append(None if user is None else row - starts[-1])
    return orders, starts


def _spans(starts: list[int], end: int) -> Iterator[tuple[int, int]]:
    """Runs of whole users of at least `BATCH_ROWS` rows, the last one excepted."""
    first = 0
    for start in [*starts[1:], end]:
        if start - first >= BATCH_ROWS or start == end:
            yield first, start
            first = start
