"""Counsel Chat: questions about mental health, answered by licensed therapists.

Provenance: Nicolas Bertagnolli, "Counsel chat: Bootstrapping high-quality therapy data", 2020,
https://github.com/nbertagnolli/counsel-chat, `20200325_counsel_chat.csv`; the texts are counselchat.com's. Licence as
stated: MIT (of the repository). Rows: 2,129, of which 121 repeat an answer, by 307 therapists; 37 gave ten or more.

The response is an answer, the query the question's title and text. A user is a therapist, by the last part of
`therapistURL`. The question's topic is the attribute `categories`. There is no time.

Known defects: the same answer stands under several topics (one row here, counted); no-break spaces in 1,357 rows (made
spaces); line breaks of the answers are lost ("people.Seriously"). Name and profession are run together in
`therapistInfo`, so the name is the capitalised words at its start, up to a comma or a capital in mid-word; it is masked
in texts (10 of the 307 begin with no such name, and are not). The other CSV of the repository holds HTML and other ids
and is left out, as are the JSON files made for a dialogue model, which repeat the texts in lower case.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator

from imprint.corpora.medqa import one_line
from imprint.corpora.reading import READ, RawRow, Reader
from imprint.corpora.records import csv_rows, files_of

COLUMNS = ("questionID", "questionTitle", "questionText", "topic", "therapistInfo", "therapistURL", "answerText")

_NAME = re.compile(r"(?:Dr\.? )?[A-Z][a-z]*\.?(?:[ -](?:[A-Z]\.?(?![A-Za-z])|(?:Mc|Mac|O')?[A-Z][a-z]+))+")


class CounselChat(Reader):
    """The CSV of March 2020, or a folder with it somewhere below."""

    tasks = ("answer",)

    def check(self) -> None:
        """Raise `CorpusError` where the file is not there, or lacks a column."""
        self._file = files_of(self.settings, ["*_counsel_chat.csv"], "20200325_counsel_chat.csv")[0]
        next(csv_rows(self._file, COLUMNS), None)

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row an answer; kinds: `answers`, `repeated answers`, `blank lines`, `unreadable`."""
        seen: set[tuple[str | None, str]] = set()
        for line, record, problem in csv_rows(self._file, COLUMNS):
            counts[READ] += 1
            where = f"{self._file.name}:{line}"
            if record is None:
                counts["unreadable" if problem else "blank lines"] += 1
                if problem:
                    yield RawRow(where=where, source_id=where, task=self.task, problem=problem)
                continue
            row = self._row(record, where)
            given = (row.user, row.source_id.rpartition(":")[2])
            counts["repeated answers" if given in seen else "answers"] += 1
            if given not in seen:
                seen.add(given)
                yield row

    @staticmethod
    def user_of(name: str) -> str | None:
        """The therapist behind a `therapistURL`, or behind its last part."""
        return name.strip().rstrip("/").rpartition("/")[2] or None

    def names(self) -> Iterator[str]:
        """Names of therapists, as written before their professions."""
        for _, record, _ in csv_rows(self._file, COLUMNS):
            if record and (name := name_in(record["therapistInfo"])):
                yield name

    def _row(self, record: dict[str, str], where: str) -> RawRow:
        answer = one_line(record["answerText"])
        given = hashlib.sha256(answer.encode(errors="surrogatepass")).hexdigest()[:16]
        asked = (one_line(record[name]) for name in ("questionTitle", "questionText"))
        return RawRow(
            where=where,
            source_id=f"{record['questionID']}:{given}",
            task=self.task,
            user=self.user_of(record["therapistURL"]),
            query="\n".join(text for text in dict.fromkeys(asked) if text),
            response=answer or None,
            attributes={"dialogue": record["questionID"], "categories": record["topic"]},
        )


def name_in(info: str) -> str | None:
    """The name with which a therapist's description begins; None where it begins with none of two words."""
    match = _NAME.match(info.strip())
    return match[0] if match else None
