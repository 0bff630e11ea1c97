"""Tables: a directory of parquet parts and a manifest, written whole or not at all, streamed in and out.

The manifest holds `rows`, `schema` (its fingerprint), `parts: {file name: rows}` and, from `data.atomic`, the SHA-256
and size of every file. Readers open what the manifest lists and nothing else: a stray file in the directory is never
read. Every record batch written becomes exactly one row group, and is read back as one record batch, so a batch that
holds whole users still holds whole users after a round trip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imprint.data.atomic import new_directory, read_manifest
from imprint.errors import RowsLostError, StoreError, UnfinishedStoreError
from imprint.provenance import fingerprint
from imprint.storage import MANIFEST, Listing, address, listing

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads
    import pyarrow.parquet as pq

_NAME = b"imprint.fingerprint"  # of a table, in the schema that it is opened with
PART_ROWS = 1_000_000
"""Rows after which a new part is begun; a batch is never cut, so a part may be larger by one batch."""


class TableWriter:
    """Appends record batches to the parts of one table; made by `new_table`, which closes it."""

    def __init__(self, directory: Path, schema: pa.Schema, part_rows: int = PART_ROWS) -> None:
        """`directory` exists and is empty; parts of `schema` are begun anew after `part_rows` rows."""
        self.rows = 0
        self.notes: dict[str, Any] = {}  # the caller's own keys for the manifest
        self.parts: dict[str, int] = {}
        self._directory, self._schema, self._part_rows = directory, schema, part_rows
        self._open: dict[str, pq.ParquetWriter] = {}
        self._current: str | None = None

    def begin(self, name: str) -> None:
        """Open the part `name` (no suffix), so that it exists even if nothing is written to it."""
        import pyarrow.parquet as pq

        self._open[name] = pq.ParquetWriter(self._directory / f"{name}.parquet", self._schema, compression="zstd")
        self.parts[f"{name}.parquet"] = 0

    def write(self, batch: pa.RecordBatch, name: str | None = None) -> None:
        """Append one row group to the part `name`, or to the current numbered part. An empty batch writes nothing.

        Raises `StoreError` where the batch's columns or types are not the table's.
        """
        require_schema(batch, self._schema, "the table being written")
        if batch.num_rows == 0:
            return
        name = name or self._numbered()
        if name not in self._open:
            self.begin(name)
        self._open[name].write_batch(batch, row_group_size=batch.num_rows)
        self.parts[f"{name}.parquet"] += batch.num_rows
        self.rows += batch.num_rows

    def _numbered(self) -> str:
        full = self._current is not None and self.parts.get(f"{self._current}.parquet", 0) >= self._part_rows
        if self._current is None or full:
            if self._current is not None:
                self._open.pop(self._current).close()
            self._current = f"part-{len(self.parts):05d}"
        return self._current

    def close(self) -> None:
        """Finish every part. A table without any gets one empty part, so that the schema can be read."""
        if not self.parts:
            self.begin("part-00000")
        self.release()

    def release(self) -> None:
        """Close the files that are open, whatever was written."""
        while self._open:
            self._open.popitem()[1].close()


@contextmanager
def new_table(
    path: Path, schema: pa.Schema, *, part_rows: int = PART_ROWS, names: Sequence[str] = ()
) -> Iterator[TableWriter]:
    """Yield a writer; on leaving normally the table becomes `path`, replacing what was there.

    `names` are parts that shall exist even if they stay empty (one a shard). On an exception nothing of the new table
    stays and an older table at `path` is untouched.
    """
    manifest: dict[str, Any] = {}
    with new_directory(path, manifest) as directory:
        writer = TableWriter(directory, schema, part_rows)
        try:
            for name in names:
                writer.begin(name)
            yield writer
            writer.close()
        finally:
            writer.release()
        manifest |= {"rows": writer.rows, "schema": schema_fingerprint(schema), "parts": writer.parts, **writer.notes}


def write_table(
    path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, *, part_rows: int = PART_ROWS
) -> dict[str, Any]:
    """Stream `batches` into a table at `path` and return its manifest. Holds one batch at a time."""
    with new_table(path, schema, part_rows=part_rows) as writer:
        for batch in batches:
            writer.write(batch)
    return finished_manifest(path)


class TableBatches:
    """The record batches of a table, a row group each, in the order written; every iteration starts anew."""

    def __init__(self, path: Path, names: Sequence[str] | None, columns: Sequence[str] | None) -> None:
        """See `read_batches`, which makes it."""
        self.manifest = finished_manifest(path)
        self.rows: int = self.manifest["rows"]
        self._files = _whole_parts(path, self.manifest, names)
        self._columns = list(columns) if columns is not None else None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the row groups, one in memory at a time."""
        import pyarrow.parquet as pq

        for file in self._files.locations.values():
            with pq.ParquetFile(file, filesystem=self._files.filesystem) as parquet:
                for group in range(parquet.num_row_groups):
                    yield from parquet.read_row_group(group, columns=self._columns).combine_chunks().to_batches()


def read_batches(path: Path, names: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> TableBatches:
    """The table's batches, of all parts or of the parts `names` (as in `shard-00003`), all columns or `columns`.

    Raises `UnfinishedStoreError` without a manifest, `StoreError` if a part is absent or of another size than written.
    """
    return TableBatches(path, names, columns)


def open_table(path: Path) -> pads.Dataset:
    """The table as a `pyarrow.dataset.Dataset`, for filters and projections. Same errors as `read_batches`."""
    import pyarrow.dataset as pads

    manifest = finished_manifest(path)
    files = _whole_parts(path, manifest, None)
    table = pads.dataset(list(files.locations.values()), format="parquet", filesystem=files.filesystem)
    named = {**(table.schema.metadata or {}), _NAME: _fingerprint(manifest).encode()}
    return table.replace_schema(table.schema.with_metadata(named))


def finished_manifest(path: Path) -> dict[str, Any]:
    """The table's manifest. Raises `UnfinishedStoreError` where there is none."""
    manifest = read_manifest(path)
    if manifest is None:
        raise UnfinishedStoreError(
            f"the table {address(path)} has no {MANIFEST}, so it was never finished or never written; it is not read. "
            "Next: run the stage that writes it again."
        )
    return manifest


def table_fingerprint(path: Path) -> str:
    """16 hex digits over the SHA-256 of every part: they name the rows, their order, and what wrote them."""
    return _fingerprint(finished_manifest(path))


def opened_fingerprint(table: pads.Dataset) -> str:
    """The `table_fingerprint` of a table that `open_table` opened, as it was then."""
    name: bytes = table.schema.metadata[_NAME]
    return name.decode()


def _fingerprint(manifest: dict[str, Any]) -> str:
    return fingerprint({part: manifest["files"][part]["sha256"] for part in manifest["parts"]})


def _whole_parts(path: Path, manifest: dict[str, Any], names: Sequence[str] | None) -> Listing:
    """Where these parts are, all of them there and of the size that was written."""
    wanted = list(manifest["parts"]) if names is None else [f"{name}.parquet" for name in names]
    for name in wanted:
        if name not in manifest["files"]:
            raise StoreError(
                f"the table {address(path)} has no part {name!r}; its parts are {', '.join(manifest['parts'])}."
            )
    found = listing(path, manifest)
    for name in wanted:
        if found.sizes.get(name) != manifest["files"][name]["bytes"]:
            raise StoreError(
                f"the part {name!r} of the table {address(path)} is absent or not of the "
                f"{manifest['files'][name]['bytes']} bytes that were written. "
                "Next: run the stage that writes the table again."
            )
    return found._replace(locations={name: found.locations[name] for name in wanted})


def joined_batches(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int, nbytes: int
) -> Iterator[pa.RecordBatch]:
    """Join batches of `schema` until they have `rows` rows or `nbytes` bytes; none is ever cut, empty ones vanish."""
    import pyarrow as pa

    pending: list[pa.RecordBatch] = []
    have_rows = have_bytes = 0
    for batch in batches:
        require_schema(batch, schema, "this stage")
        if batch.num_rows:
            pending.append(batch)
            have_rows, have_bytes = have_rows + batch.num_rows, have_bytes + batch.nbytes
        if have_rows >= rows or have_bytes >= nbytes:
            yield pa.concat_batches(pending)
            pending, have_rows, have_bytes = [], 0, 0
    if pending:
        yield pa.concat_batches(pending)


def schema_fingerprint(schema: pa.Schema) -> str:
    """16 hex digits over the names and types of the columns, in order."""
    return fingerprint([[field.name, str(field.type)] for field in schema])


def require_schema(batch: pa.RecordBatch, schema: pa.Schema, what: str) -> None:
    """Raise `StoreError` naming the columns in which `batch` differs from `schema`."""
    if batch.schema.equals(schema):
        return
    have, want = ({field.name: str(field.type) for field in side} for side in (batch.schema, schema))
    differing = sorted(name for name in {*have, *want} if have.get(name) != want.get(name))
    raise StoreError(
        f"a batch for {what} differs from its schema in {', '.join(differing) or 'the order of its columns'}. "
        "Next: run the stage before this one again with this version of imprint."
    )


def require_rows(stage: str, rows_in: int, rows_out: int, quarantined: int = 0) -> None:
    """Raise `RowsLostError` unless rows in = rows out + rows quarantined."""
    if rows_in != rows_out + quarantined:
        raise RowsLostError(
            f"{stage}: {rows_in} rows in, but {rows_out} out + {quarantined} quarantined = {rows_out + quarantined}; "
            "nothing was kept. Next: report this as a defect of imprint with the run record."
        )
