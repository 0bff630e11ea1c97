"""What all readers share: the raw row, its way into record batches, and the checks before any work."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from imprint.corpora.settings import CorpusSettings
from imprint.errors import CorpusError
from imprint.schema import raw_schema
from imprint.storage import at, fetch
from imprint.tasks import TASKS

if TYPE_CHECKING:
    import pyarrow as pa

READ = "read"
"""Key of `Corpus.counts` for all lines or records of a pass; the other keys split this number up."""
BATCH_ROWS = 4096
BATCH_CHARACTERS = 16_000_000  # so that a batch of megabyte messages does not fill the memory
NO_USER = frozenset({"", "null", "none", "nan"})
"""Ids that mean "nobody": taken at their word they would pool strangers into one user."""

_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row a reader met, in the columns of `schema.raw_schema`. With `problem` set it carries no content."""

    where: str
    source_id: str
    task: str
    user: str | None = None
    time: datetime | None = None
    query: str | None = None
    response: str | None = None
    persona: list[str] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    problem: str | None = None

    def characters(self) -> int:
        """Length of the texts, for the size of a batch."""
        return len(self.query or "") + len(self.response or "") + sum(map(len, self.persona or ()))


class Reader(ABC):
    """A format. `check` fails before any work; `rows` streams, and can be called any number of times."""

    tasks: ClassVar[tuple[str, ...]] = ("dialogue",)
    """What its rows can ask for, the default first."""

    def __init__(self, settings: CorpusSettings) -> None:
        self.settings = settings
        self.task = settings.task or self.tasks[0]
        if self.task not in self.tasks:
            raise CorpusError(
                f"corpus.task is {settings.task!r}; corpus.format {settings.format!r} offers {', '.join(self.tasks)}. "
                "Next: choose one of them, or null for the first."
            )
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise `CorpusError` when the corpus cannot be read as this format at all."""

    @abstractmethod
    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """Every row in source order; `counts` gets each line or record under one kind, and all under `READ`."""

    @staticmethod
    def user_of(name: str) -> str | None:
        """The user that `name` stands for, in the form `rows` has users in; None where it is nobody's. Here: as it is.

        A format that takes several spellings for one user says so here, and reads its rows by the same rule.
        """
        return name

    def names(self) -> Iterator[str]:
        """Raw ids under which users may be mentioned in text; may repeat."""
        for row in self.rows(Counter()):
            if row.user is not None:
                yield row.user


class Corpus:
    """An opened corpus. `counts` holds the last complete pass: lines or records by kind, adding up to `READ`."""

    def __init__(self, settings: CorpusSettings, reader: Reader) -> None:
        self.settings = settings
        self.name = settings.corpus_name
        self.counts: Counter[str] = Counter()
        self._reader = reader

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches in `schema.raw_schema()`, at most 4,096 rows each; every call starts a new pass."""
        counts: Counter[str] = Counter()
        rows: list[RawRow] = []
        characters = 0
        for row in map(with_known_label, self._reader.rows(counts)):
            rows.append(row)
            characters += row.characters()
            if len(rows) == BATCH_ROWS or characters > BATCH_CHARACTERS:
                yield batch_of(rows)
                rows, characters = [], 0
        if rows:
            yield batch_of(rows)
        self.counts = counts

    def user_names(self) -> Iterator[str]:
        """Raw ids under which users may be mentioned, each once; the ids seen so far are kept in memory, no rows.

        Ids that mean nobody are left out: the words "null" and "none" in a text are no mention of anyone.
        """
        seen: set[str] = set()
        for name in self._reader.names():
            if known_user(name) is not None and name not in seen:
                seen.add(name)
                yield name


def batch_of(rows: list[RawRow]) -> pa.RecordBatch:
    """`rows` as one record batch in `schema.raw_schema()`, texts with one kind of newline.

    Control characters stay: what a reader does not take for mark-up, validation quarantines.
    """
    import pyarrow as pa

    columns: dict[str, list[object]] = {
        "user": [known_user(row.user) for row in rows],
        "source_id": [_one_newline(row.source_id) for row in rows],
        "where": [row.where for row in rows],
        "task": [_one_newline(row.task) for row in rows],
        "time": [row.time for row in rows],
        "query": [_text(row.query) for row in rows],
        "response": [_text(row.response) for row in rows],
        "persona": [None if row.persona is None else [_one_newline(line) for line in row.persona] for row in rows],
        "attributes": [[(name, _one_newline(value)) for name, value in row.attributes.items()] for row in rows],
        "problem": [row.problem for row in rows],
    }
    schema = raw_schema()
    arrays = [pa.array(columns[name], schema.field(name).type) for name in schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def with_known_label(row: RawRow) -> RawRow:
    """`row`, or a row with `problem` in its place where the response is none of the labels of the row's task."""
    task = TASKS.get(row.task)
    if task is None or row.response is None or not row.response.strip() or not task.refuses(row.response):
        return row
    problem = f"the response is none of the labels of task {task.name!r}: {', '.join(task.labels)}"
    return RawRow(where=row.where, source_id=row.source_id, task=row.task, user=row.user, problem=problem)


def clean_text(text: str) -> str:
    """`text` without control characters other than newline and tab: for formats in which they are mere mark-up."""
    return _UNWANTED.sub("", _one_newline(text))


def _one_newline(text: str) -> str:
    r"""`text` with `\n` as its only newline; lone surrogates, which no UTF-8 file can hold, become U+FFFD."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATE.sub("\ufffd", text)


def _text(text: str | None) -> str | None:
    return None if text is None else _one_newline(text)


def known_user(user: str | None) -> str | None:
    """The raw id without surrounding space, or None where it names nobody (`NO_USER`)."""
    if user is None:
        return None
    cleaned = clean_text(user).strip()
    return None if cleaned.lower() in NO_USER else cleaned


def corpus_path(settings: CorpusSettings) -> Path:
    """`corpus.path`, existing; `CorpusError` otherwise."""
    path = fetch(at(settings.path or ""))
    if settings.path is None or not path.exists():
        raise CorpusError(
            f"corpus.path {settings.path!r} does not exist; corpus.format {settings.format!r} needs an existing path. "
            "Next: correct the path (relative paths start at the working directory), or put the corpus there."
        )
    return path


def need_file(settings: CorpusSettings) -> Path:
    """`corpus.path` as a file that is not empty and not UTF-16; `CorpusError` otherwise."""
    path = corpus_path(settings)
    if not path.is_file():
        raise CorpusError(
            f"corpus.path {settings.path!r} is a folder; corpus.format {settings.format!r} needs one file. "
            "Next: name the file inside it, or choose the format that reads the folder."
        )
    refuse_unreadable(path)
    return path


def need_folder(settings: CorpusSettings, what: str) -> Path:
    """`corpus.path` as a folder; `what` says in the error what the folder should hold."""
    path = corpus_path(settings)
    if not path.is_dir():
        raise CorpusError(
            f"corpus.path {settings.path!r} is a file; corpus.format {settings.format!r} needs a folder with {what}. "
            "Next: name the folder."
        )
    return path


def opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The bytes of a file, unpacked where its name ends in `.gz`."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def unpacked_whole(path: Path) -> Iterator[None]:
    """Inside, a gzip file that is damaged or cut short raises `CorpusError`."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(
            f"{path} is not a whole gzip file ({type(error).__name__}). Next: fetch the file again."
        ) from error


def refuse_unreadable(path: Path) -> None:
    """Raise `CorpusError` for an empty file and for one that starts with a UTF-16 or UTF-32 byte order mark."""
    with opened(path) as stream, unpacked_whole(path):
        start = stream.read(4)
    if not start:
        raise CorpusError(f"{path} is empty (0 bytes). Next: check how it was exported or copied.")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start == b"\x00\x00\xfe\xff":
        raise CorpusError(
            f"{path} starts with a UTF-16 or UTF-32 byte order mark; readers need UTF-8. "
            "Next: convert it, for example with iconv -f UTF-16 -t UTF-8."
        )


def decoded_lines(path: Path, encoding: str) -> Iterator[tuple[int, str | None, str | None]]:
    r"""`(line number from 1, text, None)`, or `(line number, None, problem)` where the bytes are not `encoding`.

    Lines end at `\n` only. A UTF-8 byte order mark at the start is dropped.
    """
    with opened(path) as stream, unpacked_whole(path):
        for number, raw in enumerate(stream, 1):
            line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            try:
                yield number, line.decode(encoding).rstrip("\r\n"), None
            except UnicodeDecodeError as error:
                yield number, None, f"the bytes are not {encoding} (at byte {error.start} of the line)"
