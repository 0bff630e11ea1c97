"""What corpora of reviews share: which files there are, the table of items beside them, and repeated reviews."""

from __future__ import annotations

import hashlib
import html
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from imprint.corpora.columns import UnreadableRowError
from imprint.corpora.items import Event, Item, ItemReader
from imprint.corpora.reading import READ, RawRow
from imprint.corpora.records import csv_rows, files_of, json_lines
from imprint.errors import CorpusError

Records = Iterator[tuple[int, dict[str, Any] | None, str | None]]

PATTERNS = ("*.json", "*.jsonl", "*.json.gz", "*.jsonl.gz", "*.csv", "*.csv.gz")
TABLE, QUESTIONS = "meta", "qa_"
"""Files whose name begins so hold no reviews: `meta_Gift_Cards.json` and `meta-Vermont.json.gz` describe items."""
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_BLANK_LINES = re.compile(r"[ \t\u00a0]*\n[ \t\u00a0]*(?:\n\s*)?")


class ReviewReader(ItemReader):
    """Files of reviews, one JSON object or CSV record each, and files of items whose name begins with `meta`.

    Memory holds the items' titles and categories, and for reviews with text a hash each.
    """

    tasks: ClassVar[tuple[str, ...]] = ("review", "rating", "review_title", "next_item", "favourite")

    @abstractmethod
    def reviews_of(self, record: dict[str, Any]) -> list[Any]:
        """The reviews in a record, one at least, each as `event_of` reads it."""

    @abstractmethod
    def event_of(self, review: dict[str, Any], where: str, source_id: str) -> Event:
        """One review. Raises `UnreadableRowError` with what keeps it from being one."""

    @abstractmethod
    def item_of(self, record: dict[str, Any]) -> tuple[str, Item]:
        """Id and description of a record of the table of items."""

    @abstractmethod
    def person_of(self, review: dict[str, Any]) -> str | None:
        """The name a reviewer goes by, where the review has it."""

    def check(self) -> None:
        """Raise `CorpusError` where there is no file of reviews, or the first of them holds none."""
        self.find_files()
        if not any(record for file in self._files for _, record, _ in _records(file)):
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has no file of reviews with a readable record. "
                "Next: name the folder, or the file, with the reviews."
            )

    def find_files(self) -> None:
        """Sort the files of `corpus.path`, and those beside it, into reviews and tables of items."""
        found = files_of(self.settings, PATTERNS, "files of reviews (*.json, *.jsonl, *.csv, plain or .gz)")
        beside = [file for folder in {file.parent for file in found} for file in folder.glob(f"{TABLE}*")]
        self._tables = sorted(file for file in beside if file.suffix != ".gz" or file.with_suffix("") not in beside)
        self._files = [file for file in found if not file.name.lower().startswith((TABLE, QUESTIONS))]
        self._items: dict[str, Item] | None = None

    def items(self) -> dict[str, Item]:
        """The table of items by id; empty where the corpus comes without one. Read once."""
        if self._items is None:
            records = (record for file in self._tables for _, record, _ in _records(file) if record)
            self._items = dict(map(self.item_of, records))
        return self._items

    def events(self, counts: Counter[str]) -> Iterator[Event | RawRow]:
        """An event a review; kinds: `reviews`, `repeated reviews`, `blank lines`, `unreadable`."""
        seen: set[bytes] = set()
        for where, source_id, review in self._reviews(counts):
            try:
                event = self.event_of(_object(review), where, source_id)
            except UnreadableRowError as error:
                counts["unreadable"] += 1
                yield RawRow(where=where, source_id=source_id, task=self.task, problem=str(error))
                continue
            repeated = _repeats(event, seen)
            counts["repeated reviews" if repeated else "reviews"] += 1
            if not repeated:
                yield event

    def names(self) -> Iterator[str]:
        """Names of two words and more under which reviewers may be mentioned; ids are letters that nobody writes."""
        for _, _, review in self._reviews(Counter()):
            name = self.person_of(review) if isinstance(review, dict) else None
            if name and len(name.split()) > 1:
                yield name

    def _reviews(self, counts: Counter[str]) -> Iterator[tuple[str, str, Any]]:
        """`(where, source id, review)`, a problem as text in the place of a review; counts blank lines."""
        for file in self._files:
            for number, record, problem in _records(file):
                where = f"{file.name}:{number}"
                if record is None and problem is None:
                    counts[READ] += 1
                    counts["blank lines"] += 1
                    continue
                for place, review in enumerate([problem] if record is None else self.reviews_of(record)):
                    counts[READ] += 1
                    yield where, f"{where}.{place}" if place else where, review


def plain_text(value: Any) -> str | None:
    """A text of a web page: its line breaks as newlines, its entities as characters; None for what is no text."""
    if not isinstance(value, str):
        return None
    return _BLANK_LINES.sub("\n", html.unescape(_BREAK.sub("\n", value))).strip()


def needed(review: dict[str, Any], *names: str) -> str:
    """The first of `names` that the review has, as text. Raises `UnreadableRowError` where it has none."""
    value = next((review[name] for name in names if review.get(name) not in (None, "")), None)
    if value is None or isinstance(value, bool | list | dict):
        raise UnreadableRowError(f"the review has no {names[0]!r}")
    return str(value)


def _object(review: Any) -> dict[str, Any]:
    """`review` where it is an object; a problem in its place is raised as such."""
    if not isinstance(review, dict):
        raise UnreadableRowError(review if isinstance(review, str) else "the review is not an object")
    return review


def _records(file: Path) -> Records:
    return csv_rows(file, ()) if ".csv" in file.suffixes else json_lines(file)


def _repeats(event: Event, seen: set[bytes]) -> bool:
    """Whether the user gave the same text before (shops repeat a review over the variants of a product)."""
    if not event.text:
        return False
    digest = hashlib.blake2b(f"{event.user}\x1f{event.text}".encode(errors="surrogatepass"), digest_size=8).digest()
    if digest in seen:
        return True
    seen.add(digest)
    return False
