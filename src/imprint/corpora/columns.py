"""Own corpora with named columns: JSON lines, CSV and Parquet.

What: any table with one interaction a row; `corpus.columns` says which column is what, `corpus.attributes` which
others to keep. Provenance, licence, row counts: the owner's. Known defects met in such files, and what happens:
- a line that is not JSON, not an object, or not in `corpus.encoding` becomes a row with `problem`, without content;
- so does a row with a time that cannot be read, or a list where text is needed;
- numbers as ids and texts are taken as their digits; an empty, null or NaN user is no user;
- without an `id` column the id is `row-<n>` (n counts from 1), so the order of rows must stay the same between runs.
"""

from __future__ import annotations

import json
import logging
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from imprint.corpora.reading import READ, RawRow, Reader, decoded_lines, need_file
from imprint.corpora.records import cell_problem, csv_records, listed
from imprint.errors import CorpusError
from imprint.tasks import TASKS

log = logging.getLogger(__name__)

CHECKED_LINES = 200  # JSON lines may leave out keys, so a key counts as present if one of the first lines has it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 1e11  # as seconds, this is the year 5138; as milliseconds, March 1973


class UnreadableRowError(ValueError):
    """A row that cannot be an interaction; the message says why and repeats nothing of the row."""


class ColumnReader(Reader):
    """The column map, shared by the three formats; the corpus may ask for anything."""

    tasks = tuple(TASKS)

    def check(self) -> None:
        """Raise `CorpusError` for an unusable file, and for columns the file lacks."""
        self.path = need_file(self.settings)
        found = self.found_columns()
        for key, column in self._needed_columns():
            if column not in found:
                raise CorpusError(
                    f"{self.path} has no column {column!r}, which {key} names; found are {listed(found)}. "
                    f"Next: set {key} to the right column."
                )
        if (time := self.settings.columns.time) is not None and time not in found:
            log.warning(
                "%s has no column %r: what is earlier and what is later is told by the order of its rows. Next: set "
                "corpus.columns.time to the column that holds the time, or to null where there is none.",
                self.path,
                time,
            )

    @abstractmethod
    def found_columns(self) -> set[str]:
        """The columns or keys of the file."""

    def _needed_columns(self) -> Iterator[tuple[str, str]]:
        """`(key in YAML, column)`: user, query, response, and optional ones that are not called as by default.

        A default name of an optional column is no promise, for the shipped YAML spells all of them out.
        """
        columns = self.settings.columns
        for name, field in type(columns).model_fields.items():
            column = getattr(columns, name)
            if column is not None and (name in ("user", "query", "response") or column != field.default):
                yield f"corpus.columns.{name}", column
        for name, column in self.settings.attributes.items():
            yield f"corpus.attributes.{name}", column

    def row_of(self, record: Mapping[str, Any], number: int, where: str, counts: Counter[str]) -> RawRow:
        """`record` as a raw row; one that cannot be read becomes a row with `problem`."""
        columns, default_id = self.settings.columns, f"row-{number}"
        try:
            source_id = _text(_at(record, columns.id), "id") or default_id
            row = RawRow(
                where=where,
                source_id=source_id,
                task=_text(_at(record, columns.task), "task") or self.task,
                user=_text(_at(record, columns.user), "user"),
                time=parsed_time(_at(record, columns.time)),
                query="" if columns.query is None else _text(_at(record, columns.query), "query"),
                response=_text(_at(record, columns.response), "response"),
                persona=_persona(_at(record, columns.persona)),
                attributes=self._attributes(record),
            )
        except UnreadableRowError as error:
            return self.unreadable(str(error), number, where, counts)
        # without a time earlier and later ones are told by the order of the file, which the owner should know
        counts["rows without a time" if row.time is None else "rows"] += 1
        return row

    def unreadable(self, problem: str, number: int, where: str, counts: Counter[str]) -> RawRow:
        """The row that stands for a line or record nobody could read."""
        counts["unreadable"] += 1
        return RawRow(where=where, source_id=f"row-{number}", task=self.task, problem=problem)

    def _attributes(self, record: Mapping[str, Any]) -> dict[str, str]:
        values = ((name, _text(record.get(column), name)) for name, column in self.settings.attributes.items())
        return {name: value for name, value in values if value is not None}


class JsonLines(ColumnReader):
    """One JSON object a line."""

    def found_columns(self) -> set[str]:
        """Keys of the objects among the first lines."""
        found: set[str] = set()
        for _, text, _ in islice(decoded_lines(self.path, self.settings.encoding), CHECKED_LINES):
            try:
                value = json.loads(text or "null")
            except (ValueError, RecursionError):
                continue
            found.update(value if isinstance(value, dict) else ())
        if not found:
            raise CorpusError(
                f"none of the first {CHECKED_LINES} lines of {self.path} is a JSON object in {self.settings.encoding}. "
                "Next: check corpus.format and corpus.encoding."
            )
        return found

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a line; blank lines are counted and skipped."""
        for number, text, problem in decoded_lines(self.path, self.settings.encoding):
            counts[READ] += 1
            where = f"{self.path.name}:{number}"
            if text is None:
                yield self.unreadable(problem or "", number, where, counts)
            elif not text.strip():
                counts["blank lines"] += 1
            else:
                yield self._row(text, number, where, counts)

    def _row(self, text: str, number: int, where: str, counts: Counter[str]) -> RawRow:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            return self.unreadable(f"the line is not JSON ({reason})", number, where, counts)
        if not isinstance(value, dict):
            return self.unreadable(f"the line is {_kind(value)}, not an object", number, where, counts)
        return self.row_of(value, number, where, counts)


class Csv(ColumnReader):
    """Comma-separated values with a header; cells may hold commas, quotes and newlines (RFC 4180)."""

    def found_columns(self) -> set[str]:
        """The header's cells."""
        header = next((cells for _, cells, _ in csv_records(self.path, self.settings.encoding) if cells), [])
        return {name for name in header if name}

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a record after the header; blank records are counted and skipped."""
        records = csv_records(self.path, self.settings.encoding)
        header = next((cells for _, cells, _ in records if cells), [])
        number = 0
        for line, cells, broken in records:
            counts[READ] += 1
            if not cells and broken is None:
                counts["blank lines"] += 1
                continue
            number += 1
            where = f"{self.path.name}:{line}"
            problem = broken or cell_problem(header, cells, self.settings.encoding)
            if problem:
                yield self.unreadable(problem, number, where, counts)
            else:
                # A CSV cell cannot say null, so an empty one means "not given", except for the query.
                given = {name: cell or None for name, cell in zip(header, cells, strict=True)}
                query = self.settings.columns.query
                yield self.row_of(given | ({query: given.get(query) or ""} if query else {}), number, where, counts)


class Parquet(ColumnReader):
    """Apache Parquet, read by row group."""

    def found_columns(self) -> set[str]:
        """The column names of the file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return set(pq.read_schema(self.path).names)
        except (pa.ArrowInvalid, OSError) as error:
            raise CorpusError(
                f"{self.path} is not a Parquet file ({error}). Next: check corpus.path and corpus.format."
            ) from error

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a record; only the mapped columns are read."""
        import pyarrow.parquet as pq

        columns = self.settings.columns
        mapped = {getattr(columns, name) for name in type(columns).model_fields} | set(
            self.settings.attributes.values()
        )
        with pq.ParquetFile(self.path) as file:
            wanted = [name for name in file.schema_arrow.names if name in mapped]
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=wanted):
                for record in batch.to_pylist():
                    number += 1
                    counts[READ] += 1
                    yield self.row_of(record, number, f"{self.path.name}:{number}", counts)


def parsed_time(value: Any) -> datetime | None:
    """`value` as a time in UTC: ISO 8601 (without zone: UTC), epoch seconds, or milliseconds from 1e11 up.

    None and an empty string are no time. Anything else raises `UnreadableRowError`.
    """
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            return _from_text(value.strip())
        if isinstance(value, datetime):
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _from_number(float(value))
    except (ValueError, OverflowError):
        raise UnreadableRowError("the time is neither ISO 8601 nor epoch seconds or milliseconds") from None
    raise UnreadableRowError(f"the time is {_kind(value)}, not text or a number")


def _from_text(text: str) -> datetime:
    number = None if text.isdigit() and len(text) in {4, 8} else _number(text)  # 20260131 is a day, no moment of 1970
    if number is not None:
        return _from_number(number)
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _from_number(number: float) -> datetime:
    if not math.isfinite(number):
        raise ValueError
    return _EPOCH + timedelta(seconds=number / 1000 if abs(number) >= _MILLISECONDS_FROM else number)


def _at(record: Mapping[str, Any], column: str | None) -> Any:
    return None if column is None else record.get(column)


def _text(value: Any, name: str) -> str | None:
    """`value` as text: numbers by their digits (7.0 as 7), null and NaN as None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and not isinstance(value, bool):
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise UnreadableRowError(f"{name} is {_kind(value)}, not text")


def _persona(value: Any) -> list[str] | None:
    """A list of texts, or a text with a line an entry; blank entries are left out."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.split("\n")
    if not isinstance(value, list):
        raise UnreadableRowError(f"persona is {_kind(value)}, not a list or text")
    lines = [_text(line, "an entry of persona") for line in value]
    return [line.strip() for line in lines if line and line.strip()]


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", bool: "a boolean", str: "text", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
