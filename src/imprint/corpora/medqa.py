"""Medical questions answered by doctors: eHealth Forum, iCliniq, Question Doctors.

Provenance: Lasse Regin Nielsen, https://github.com/LasseRegin/medical-question-answer-data (2017). Licence as stated:
MIT (of the repository; the texts are the sites'). Rows: 5,679 answers of Question Doctors (with authors), 171 of
eHealth Forum and 465 of iCliniq (without): 6,315.

The user is the author of an answer, the query the question, the response the answer. Authors are spelled in several
ways, so case, dots, spaces and the title "Dr" are ignored: `Dr. A. Body`, `dr a body` and `A.Body` are one user.
`unknown`, `Original poster` and `Original questioner` are roles that many people share: their rows, like those of the
two sites without authors, have no user and end in quarantine.

Known defects: 193 answers of Question Doctors were cut by the site and end in `…` (kept, with attribute `cut`);
iCliniq's end in `--> <link>` (removed), its questions are padded with newlines, tabs and no-break spaces (collapsed
to single spaces). Questions repeat, with another doctor's answer each time. There is no time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from imprint.corpora.reading import READ, RawRow, Reader, need_folder, refuse_unreadable
from imprint.corpora.records import json_list
from imprint.errors import CorpusError

FILES = ("questionDoctorQAs.json", "ehealthforumQAs.json", "icliniqQAs.json")
ROLES = frozenset({"unknown", "original poster", "original questioner"})
_LINK = re.compile(r"(?:\s*-->)?\s*<link>\s*$")


class MedQa(Reader):
    """The three JSON lists in one folder; at least one must be there."""

    tasks = ("answer",)

    def check(self) -> None:
        """Raise `CorpusError` where none of the files is there, or one is empty."""
        folder = need_folder(self.settings, ", ".join(FILES))
        self._files = [folder / name for name in FILES if (folder / name).is_file()]
        if not self._files:
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has none of {', '.join(FILES)}. Next: name the folder with them."
            )
        for file in self._files:
            refuse_unreadable(file)

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row an answer; kinds of records: `answers`, `answers without author`, `unreadable`."""
        for file in self._files:
            for number, record in enumerate(json_list(file), 1):
                counts[READ] += 1
                row = _row(record, f"{file.name}:{number}", f"{file.stem}:{number}")
                kind = "unreadable" if row.problem else "answers" if row.user else "answers without author"
                counts[kind] += 1
                yield row

    @staticmethod
    def user_of(name: str) -> str | None:
        """One id for all spellings of an author (`author_id`)."""
        return author_id(name)


def _row(record: Any, where: str, source_id: str) -> RawRow:
    if not isinstance(record, dict):
        return RawRow(where=where, source_id=source_id, task="answer", problem="the record is not an object")
    answer, question = record.get("answer"), record.get("question_text") or record.get("question") or ""
    author = record.get("answer_author")
    if not (isinstance(answer, str | None) and isinstance(question, str) and isinstance(author, str | None)):
        return RawRow(where=where, source_id=source_id, task="answer", problem="answer, question or author is not text")
    response = None if answer is None else answer_text(answer)
    return RawRow(
        where=where,
        source_id=source_id,
        task="answer",
        user=author_id(author) if author else None,
        query=one_line(question),
        response=response,
        attributes={"dialogue": str(record.get("url") or "")} | ({"cut": "true"} if _is_cut(response) else {}),
    )


def author_id(author: str) -> str | None:
    """One id for all spellings of an author, or None for a role that many people share."""
    words = author.lower().replace(".", " ").split()
    if len(words) > 1 and words[0] in ("dr", "doctor"):
        words = words[1:]
    name = " ".join(words)
    return None if not name or name in ROLES else name


def one_line(text: str) -> str:
    """`text` with every run of white space (no-break spaces included) as one space."""
    return " ".join(text.split())


def answer_text(answer: str) -> str:
    """The answer on one line, without the link marker at its end."""
    return _LINK.sub("", one_line(answer))


def _is_cut(response: str | None) -> bool:
    return bool(response) and response is not None and response.endswith("…")
