"""The records of a file, one at a time: JSON lists, JSON lines, and CSV, plain or packed with gzip.

What is broken in one record is said beside it and costs no other record; a JSON list that breaks off has no records
worth saving, and stops the reading.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from imprint.corpora.reading import corpus_path, decoded_lines, opened, refuse_unreadable, unpacked_whole
from imprint.corpora.settings import CorpusSettings
from imprint.errors import CorpusError

LARGEST_CELL = 64 * 1024 * 1024  # characters; an unclosed quote must not swallow a whole file into memory
CHUNK = 1 << 20  # bytes of a JSON list in memory at a time, or twice its largest element
_WHITE = " \t\n\r"
_COLUMN = re.compile(r"[^\W\d]\w{0,40}")


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | None, str | None]]:
    """`(line number from 1, object, None)`, or `(line number, None, problem)`; both None for a blank line."""
    for number, text, problem in decoded_lines(path, "utf-8"):
        if text is None or not text.strip():
            yield number, None, problem
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield number, None, f"the line is not JSON ({type(error).__name__})"
            continue
        yield (number, value, None) if isinstance(value, dict) else (number, None, "the line is not a JSON object")


def json_list(path: Path) -> Iterator[Any]:
    """The elements of a file that is one JSON list; memory holds the largest element, not the list.

    Raises `CorpusError` where the file is anything else, or ends before the list does.
    """
    refuse_unreadable(path)
    try:
        with unpacked_whole(path), io.TextIOWrapper(opened(path), encoding="utf-8-sig") as stream:
            yield from _elements(stream, path)
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            f"{path.name} is not JSON, or breaks off ({type(error).__name__}). Next: fetch the file again."
        ) from error


def _elements(stream: io.TextIOWrapper, path: Path) -> Iterator[Any]:
    decoder, text, at = json.JSONDecoder(), "", 1
    while not text and (chunk := stream.read(CHUNK)):
        text = chunk.lstrip(_WHITE)
    if not text.startswith("["):
        raise CorpusError(f"{path.name} is not a JSON list. Next: check corpus.path, or fetch the file again.")
    while True:
        at = _after(text, at, _WHITE + ",")
        if text[at : at + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            end = len(text)  # the element may only not be whole yet
        if end < len(text):
            yield value
            at = end
            continue
        more = stream.read(max(CHUNK, len(text) - at))
        if not more:
            raise ValueError
        text, at = text[at:] + more, 0


def _after(text: str, at: int, skipped: str) -> int:
    while at < len(text) and text[at] in skipped:
        at += 1
    return at


def csv_records(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, list[str], str | None]]:
    """`(line on which the record ends, cells, problem)`; bytes of another encoding become lone surrogates."""
    csv.field_size_limit(LARGEST_CELL)
    named = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    text = io.TextIOWrapper(opened(path), encoding=named, errors="surrogateescape", newline="")
    with unpacked_whole(path), text as stream:
        reader = csv.reader(stream)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, [], f"the record is not CSV ({error})"
                continue
            yield reader.line_num, cells, None


def listed(columns: Iterable[str]) -> str:
    """Names of columns for an error message; what may be a first row of data instead is not repeated."""
    names = sorted(columns)
    if all(_COLUMN.fullmatch(name) for name in names):
        return ", ".join(names)
    return f"{len(names)}, not all of which can be names and none of which is repeated here (has the file a header?)"


def cell_problem(header: Sequence[str], cells: Sequence[str], encoding: str = "utf-8") -> str | None:
    """What keeps `cells` from being a record under `header`, or None."""
    if len(cells) != len(header):
        return f"the record has {len(cells)} cells, the header {len(header)}"
    if any("\udc80" <= character <= "\udcff" for cell in cells if not cell.isascii() for character in cell):
        return f"the bytes are not {encoding}"
    return None


def csv_rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str] | None, str | None]]:
    """`(line, record by column, None)`, or `(line, None, problem)`; both None for a blank line.

    Raises `CorpusError` where the header lacks one of `needed`.
    """
    records = csv_records(path)
    header = next((cells for _, cells, _ in records if cells), [])
    missing = [name for name in needed if name not in header]
    if missing:
        raise CorpusError(
            f"{path} has no column {missing[0]!r}; found are {listed(header)}. "
            "Next: check corpus.format, or fetch the file again."
        )
    for line, cells, broken in records:
        problem = broken or (cell_problem(header, cells) if cells else None)
        yield line, None if problem or not cells else dict(zip(header, cells, strict=True)), problem


def files_of(settings: CorpusSettings, patterns: Sequence[str], what: str) -> list[Path]:
    """`corpus.path` itself where it is a file, or the files below it that match a pattern, sorted by their path.

    A packed file beside its unpacked twin is left out. Raises `CorpusError` where nothing is found, or is empty;
    `what` says in the error what the folder should hold.
    """
    path = corpus_path(settings)
    found = [path] if path.is_file() else sorted({file for pattern in patterns for file in path.rglob(pattern)})
    files = [file for file in found if file.suffix != ".gz" or file.with_suffix("") not in found]
    if not files:
        raise CorpusError(
            f"corpus.path {settings.path!r} has no {what} anywhere below. "
            "Next: name the folder into which the corpus was unpacked."
        )
    for file in files:
        refuse_unreadable(file)
    return files
