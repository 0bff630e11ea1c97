"""LaMP 1 to 7: short questions to one person, with that person's earlier work as the history.

Provenance: Salemi et al., "LaMP: When Large Language Models Meet Personalization", ACL 2024, arXiv 2304.11406,
https://lamp-benchmark.github.io: `{train,dev,test}_questions.json` and `_outputs.json`, user-based or time-based.
Licence as stated: CC BY-NC-SA 4.0 (LaMP-6 needs the Avocado collection of the LDC). Rows, train/dev/test questions:
LaMP-1 6,542/1,500/1,500; LaMP-2 (movies) 5,073/1,410/1,557; LaMP-3 20,000/2,500/2,500; LaMP-4 12,500/1,500/1,800;
LaMP-5 14,682/1,500/1,500; LaMP-7 13,437/1,498/1,500; 16 to 205 history items to each.

A profile item becomes an earlier interaction of the same user: its text worded as the task's query, its label or title
as the response (`HISTORY`). LaMP-1's items have no citation, so they are abstracts written for their titles, and
LaMP-7's are tweets with an empty query, as in the benchmark's own study of one PEFT a user (arXiv 2409.09510) and in
OPPU (arXiv 2402.04401). The question keeps its published words and comes last: it has no time, its items mostly have.
A user is `LaMP_<n>/<user_id>` (time-based), or `LaMP_<n>/<question id>`, for there every question is another person's.
`corpus.task` chooses among several tasks in one folder; null reads them all.

Known defects: no golds are published for some test splits, so those questions end in quarantine and their histories
stay; one question of the movie task (dev, id 110) has lost its words and does too; `LaMP_2` names the movie task in
new files and the news task in old ones (the wording decides); the time-based files repeat a user's items with every
question (each is used once; memory then holds a hash an item).

The time-based files ask a user again later, and what was asked before is an item of the later profiles; some user-based
profiles hold their own question. Such a question's answer would stand in the history that a method knows, so it goes
into quarantine and the item stays. Where no golds of the test split are published, leave its questions out of the
folder: their profiles tell the answers of the dev split.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from imprint.corpora.columns import UnreadableRowError, parsed_time
from imprint.corpora.lamp_pairs import QUESTIONS, Pair, outputs_of, pair_of, place_of, text_of
from imprint.corpora.reading import READ, RawRow, Reader
from imprint.corpora.records import files_of, json_list
from imprint.errors import CorpusError
from imprint.tasks import TASKS

TOLD = "an item of the same user's profile has the question's text and its gold, so the history would tell the answer"
HISTORY = {
    "citation": ("abstract", "title", "abstract"),
    "tag": ("tag", "description", "tag"),
    "news_category": ("news_category", "text", "category"),
    "rating": ("rating", "text", "score"),
    "headline": ("headline", "text", "title"),
    "title": ("title", "abstract", "title"),
    "subject": ("subject", "text", "title"),
    "paraphrase": ("text", None, "text"),
}
"""Task of the questions to (task of the profile items, field with the text asked about, field with the response)."""


class Lamp(Reader):
    """All question files below a folder, or one question file with its outputs beside it."""

    tasks = tuple(HISTORY)

    def check(self) -> None:
        """Raise `CorpusError` where there are no questions, no golds to any, or outputs that are none."""
        pairs = [pair_of(file) for file in files_of(self.settings, [f"*{QUESTIONS}"], f"*{QUESTIONS}")]
        if not any(pair.golds for pair in pairs):
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has questions and no *_outputs.json beside them, so nothing could "
                "be learnt or measured. Next: put the outputs beside the questions."
            )
        wanted = [pair for pair in pairs if self.settings.task in (None, pair.task)]
        if not wanted:
            found = ", ".join(sorted({pair.task for pair in pairs}))
            raise CorpusError(
                f"corpus.task is {self.settings.task!r}; the questions below corpus.path are of {found}. "
                "Next: choose one of them, or null for all."
            )
        self._pairs = sorted(wanted, key=lambda pair: (pair.number, place_of(pair.split), str(pair.questions)))

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a profile item, a row a question; kinds: `history items`, `questions`, and what was amiss."""
        seen: set[bytes] = set()
        told = self._told()
        for pair in self._pairs:
            met: set[str] = set()
            for question in _questions(pair):
                yield from question.rows(counts, seen, met, told)
            yield from _left_over(pair, met, counts)

    def _told(self) -> set[bytes]:
        """What is asked and also told by an item of the same user, in whichever split; the files are read twice."""
        asked = {question.asks() for pair in self._pairs for question in _questions(pair)}
        items = (item for pair in self._pairs for question in _questions(pair) for item in question.tells())
        return {item for item in items if item in asked}

    def names(self) -> Iterator[str]:
        """None: users are numbers."""
        return iter(())


class _Question:
    """One record of a question file."""

    def __init__(self, pair: Pair, record: Any, where: str) -> None:
        self.pair, self.where = pair, where
        self.record = record if isinstance(record, dict) else {}
        self.id = str(self.record.get("id") or "")
        self.owner = self.record.get("user_id")
        self.user = f"LaMP_{pair.number}/{self.owner or self.id}" if self.id else None

        profile = self.record.get("profile") or []
        self.profile = profile if isinstance(profile, list) else [profile]

    def asks(self) -> bytes:
        """A hash of user, text asked about, and gold; where a task's items have no text, without it."""
        text = ""
        if HISTORY[self.pair.task][1] is not None:
            text = str(self.record.get("input")).partition(marker(self.pair.task))[2]
        return _digest(self.user, _spaced(text), _spaced((self.pair.golds or {}).get(self.id) or ""))

    def tells(self) -> Iterator[bytes]:
        """The same of every item of the profile, were it asked about."""
        _, text, response = HISTORY[self.pair.task]
        for item in self.profile:
            if isinstance(item, dict):
                fields = [text_of(item.get(name)) if name else "" for name in (text, response)]
                yield _digest(self.user, *(_spaced(field or "") for field in fields))

    def rows(self, counts: Counter[str], seen: set[bytes], met: set[str], told: set[bytes]) -> Iterator[RawRow]:
        """The profile's rows, then the question's."""
        for place, item in enumerate(self.profile):
            counts[READ] += 1
            row = self._history(item, place)
            if self.owner and not row.problem and _repeats(row, seen):
                counts["repeated history items"] += 1
                continue
            counts["unreadable" if row.problem else "history items"] += 1
            yield row
        counts[READ] += 1
        row = self._asked(met, told)
        kind = "questions" if self.profile else "questions without history"
        if row.problem:
            kind = "questions that a profile answers" if row.problem == TOLD else "unreadable"
        counts[kind] += 1
        yield row

    def _history(self, item: Any, place: int) -> RawRow:
        task, text, response = HISTORY[self.pair.task]
        where, source_id = f"{self.where}.{place + 1}", f"{self.id}:{place}"
        try:
            return RawRow(
                where=where,
                source_id=source_id,
                task=task,
                user=self.user,
                time=parsed_time(item.get("date") if isinstance(item, dict) else None),
                query=TASKS[task].query(text="" if text is None else _field(item, text)),
                response=_field(item, response),
                attributes={"kind": "history", "file": self.pair.split},
            )
        except UnreadableRowError as error:
            return RawRow(where=where, source_id=source_id, task=task, user=self.user, problem=str(error))

    def _asked(self, met: set[str], told: set[bytes]) -> RawRow:
        task, asked = self.pair.task, self.record.get("input")
        golds = self.pair.golds
        problem = None
        if not self.id:
            problem = "the record is not a question with an id"
        elif not isinstance(asked, str) or marker(task) not in asked:
            problem = f"the question is not worded as one of task {task!r}: it has no {marker(task)!r}"
        elif golds is None:
            problem = "there is no file of outputs beside this file of questions"
        elif golds.get(self.id) is None:
            problem = "the outputs have no gold of the question's id, or one without output"
        elif self.id in met:
            problem = "another question of the file has the same id"
        elif self.asks() in told:
            problem = TOLD
        source_id = f"question:{self.id or self.where}"
        met.add(self.id)
        if problem or golds is None or not isinstance(asked, str):
            return RawRow(where=self.where, source_id=source_id, task=task, user=self.user, problem=problem)
        return RawRow(
            where=self.where,
            source_id=source_id,
            task=task,
            user=self.user,
            query=asked,
            response=golds[self.id],
            attributes={"kind": "question", "file": self.pair.split},
        )


def marker(task: str) -> str:
    """The word of a task's wording after which the question's own text begins; a question without it has lost it."""
    return TASKS[task].wording.rpartition("{")[0].strip(' "').split()[-1]


def _questions(pair: Pair) -> Iterator[_Question]:
    for number, record in enumerate(json_list(pair.questions), 1):
        yield _Question(pair, record, f"LaMP_{pair.number}/{pair.questions.name}:{number}")


def _left_over(pair: Pair, met: set[str], counts: Counter[str]) -> Iterator[RawRow]:
    """Rows with a problem for golds that no question has, or that came twice; no gold used at all is an error."""
    golds = pair.golds or {}
    unused = [gold for gold in golds if gold not in met]
    if golds and len(unused) == len(golds):
        raise CorpusError(
            f"{pair.questions.name} and its outputs share no id: {len(met)} questions, {len(golds)} golds. "
            "Next: put the outputs of the same split and task beside the questions."
        )
    problems = [(gold, "no question has the id of this gold") for gold in unused]
    problems += [(gold, "another gold has the same id; the first is used") for gold in pair.repeated]
    for number, (gold, problem) in enumerate(problems, 1):
        counts[READ] += 1
        counts["golds that answer nothing"] += 1
        where = f"{outputs_of(pair.questions).name}: {gold}"
        yield RawRow(where=where, source_id=f"gold {number}:{where}", task=pair.task, problem=problem)


def _field(item: Any, name: str) -> str:
    value = text_of(item.get(name)) if isinstance(item, dict) else None
    if value is None:
        raise UnreadableRowError(f"the item has no {name!r} that is text or a number")
    return value


def _repeats(row: RawRow, seen: set[bytes]) -> bool:
    """Whether the same user's equal item was met before; remembers it."""
    digest = _digest(row.user, str(row.time), str(row.query), str(row.response))
    if digest in seen:
        return True
    seen.add(digest)
    return False


def _digest(user: str | None, *texts: str) -> bytes:
    text = "\x1f".join((str(user), *texts))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _spaced(text: str) -> str:
    return " ".join(text.split())
