"""AmazonQA joined with reviews: what people answered about products, after what they wrote about products.

Provenance: Wan and McAuley, "Modeling Ambiguity, Subjectivity, and Diverging Viewpoints in Opinion Question Answering
Systems", ICDM 2016, arXiv 1610.08095, and McAuley and Yang, WWW 2016; https://jmcauley.ucsd.edu/data/amazon/qa,
`QA_<Category>.json.gz` (several answers to a question, with their authors) or `qa_<Category>.json.gz` (one answer,
without). One of the data sets of MiLP. Licence: none stated; given out for research. Rows: 1.4 million questions in
all; Video Games with several answers: 1,183 products, 28,893 answers.

An answer is a row of task `answer`: the question, and before it the product's name where the table beside has it. The
join: a review (`imprint.corpora.amazon`, any shape, in the same folder) is an earlier interaction of task `review`
where its author answered at least one question. Other people's reviews are counted and left out: nobody asks them.

Known defects: the files are Python literals, not JSON (both are read; nothing is executed); files with one answer a
question have no author, so their rows have no user and end in quarantine; dates are words ("January 5, 2014"; read as
English), some are missing; answers hold HTML entities (decoded). Which release has the authors is an open point of the
literature: a file without any author is refused.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from imprint.corpora.amazon import Amazon
from imprint.corpora.columns import parsed_time
from imprint.corpora.items import Item
from imprint.corpora.reading import READ, RawRow, Reader, decoded_lines, need_folder
from imprint.corpora.records import files_of
from imprint.corpora.reviews import plain_text
from imprint.errors import CorpusError

PATTERNS = ("QA_*.json", "QA_*.json.gz", "qa_*.json", "qa_*.json.gz")
DATES = ("%B %d, %Y", "%b %d, %Y")


class AmazonQa(Reader):
    """A folder with question files, and reviews and tables of products beside them."""

    tasks = ("answer",)

    def check(self) -> None:
        """Raise `CorpusError` where there are no questions, or none of the answers has an author."""
        need_folder(self.settings, "QA_*.json or qa_*.json files")
        self._questions = files_of(self.settings, PATTERNS, "QA_*.json or qa_*.json files")
        self._reviews = _ReviewsBeside(self.settings.model_copy(update={"task": "review"}))
        self._authors = {row.user for row in self._answers(Counter()) if row.user is not None}
        if not self._authors:
            raise CorpusError(
                f"no answer below corpus.path {self.settings.path!r} says who wrote it, so there are no users. "
                "Next: take the files with several answers to a question (QA_<Category>.json.gz)."
            )

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """Answers, then the reviews of those who answered; kinds: `answers`, `answers without author`, and theirs."""
        yield from self._answers(counts)
        theirs: Counter[str] = Counter()
        left_out = 0
        for row in self._reviews.rows(theirs):
            if row.user in self._authors or row.problem:
                yield row
            else:
                left_out += 1
        theirs["reviews"] -= left_out
        theirs["reviews of people who answered nothing"] = left_out
        counts.update({kind: number for kind, number in theirs.items() if number})

    def names(self) -> Iterator[str]:
        """Names of reviewers; ids are letters that nobody writes."""
        return self._reviews.names()

    def _answers(self, counts: Counter[str]) -> Iterator[RawRow]:
        for file in self._questions:
            for number, text, problem in decoded_lines(file, "utf-8"):
                where = f"{file.name}:{number}"
                if text is not None and not text.strip():
                    counts[READ] += 1
                    counts["blank lines"] += 1
                    continue
                for place, (product, question, answer) in enumerate(_pairs(text)):
                    counts[READ] += 1
                    row = self._row(product, question, answer, (where, f"{where}.{place}", problem))
                    known = "answers" if row.user else "answers without author"
                    counts["unreadable" if row.problem else known] += 1
                    yield row

    def _row(self, product: Any, question: Any, answer: Any, place: tuple[str, str, str | None]) -> RawRow:
        where, source_id, problem = place
        if not (isinstance(product, str) and isinstance(question, dict) and isinstance(answer, dict)):
            problem = problem or "the line has no product with a question and an answer, in JSON or as a Python literal"
            return RawRow(where=where, source_id=source_id, task=self.task, problem=problem)
        asked = plain_text(question.get("questionText") or question.get("question"))
        item = self._reviews.items().get(product, Item(""))
        author = answer.get("answererID")
        return RawRow(
            where=where,
            source_id=source_id,
            task=self.task,
            user=author if isinstance(author, str) else None,
            time=_date(answer),
            query=f"{item.title}: {asked}" if item.title and asked else asked,
            response=plain_text(answer.get("answerText") or answer.get("answer")),
            attributes={"item": product} | ({"title": item.title} if item.title else {}),
        )


class _ReviewsBeside(Amazon):
    """The reviews in the folder of the questions; there may be none."""

    def check(self) -> None:
        """Find the files, if any."""
        self.find_files()


def _pairs(text: str | None) -> Iterator[tuple[Any, Any, Any]]:
    """`(product, question, answer)` of a line, several or one; something that is none of these where it is broken."""
    record = _literal(text or "")
    if not isinstance(record, dict):
        yield None, None, None
        return
    several = record.get("questions")
    for question in several if isinstance(several, list) and several else [record]:
        answers = question.get("answers") if isinstance(question, dict) else None
        for answer in answers if isinstance(answers, list) and answers else [question]:
            yield record.get("asin"), question, answer


def _literal(text: str) -> Any:
    """The value of a line in JSON or as a Python literal, None for anything else; nothing is executed."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _date(answer: dict[str, Any]) -> datetime | None:
    """`unixTime`, or the date in words; None for a date in no known form, which only puts the row last."""
    if isinstance(answer.get("unixTime"), int):
        return parsed_time(answer["unixTime"])
    for form in DATES:
        try:
            return datetime.strptime(str(answer.get("answerTime")), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
