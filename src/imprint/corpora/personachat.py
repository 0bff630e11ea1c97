"""PersonaChat and Synthetic-Persona-Chat: conversations of people who were given, or are made of, a persona.

PersonaChat. Provenance: Zhang et al., "Personalizing Dialogue Agents: I have a dog, do you have pets too?", ACL 2018,
arXiv 1801.07243; ParlAI's files `{train,valid,test}_{self,both}_original.txt` and the like (also ConvAI2's). Licence:
ParlAI's code is MIT, the files state none. Rows: 8,939 / 1,000 / 968 conversations, 1,155 personas; in ConvAI2's files
each conversation is told from both sides. Lines are `N your persona: …`, `N partner's persona: …`, and
`N query<TAB>response<TAB><TAB>candidates`; N begins again at 1 with every conversation. Only the side whose persona is
"yours" gives rows: the partner's words are their queries.

Synthetic-Persona-Chat. Provenance: Jandaghi et al., "Faithful Persona-based Conversational Dataset Generation with
Large Language Models", arXiv 2312.10007, https://github.com/google-research-datasets/Synthetic-Persona-Chat; CSV of
two personas and a conversation with `User 1:` and `User 2:` lines. Licence as stated: CC BY 4.0. Rows: valid and test
hold 1,968 conversations and 1,065 personas, 54,233 turns (12 of nobody); a language model wrote the conversations.

A user is a persona: no file says who spoke, and the same persona comes back in other conversations. Equal lines in any
order are one persona, so the rewritten ("revised") files have users of their own. There is no time.

Known defects: ParlAI writes `__SILENCE__` where somebody has not spoken yet (an empty query here); candidates are
left out; training files repeat a persona in many conversations, test files only in a few; synthetic turns hold
placeholders ("[User 1's name]") and, in recipes and lists, several lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from imprint.corpora.reading import READ, RawRow, Reader, decoded_lines
from imprint.corpora.records import csv_records, csv_rows, files_of
from imprint.corpora.turns import Turn, persona_user, rows_of_turns, spoken

SILENCE = "__SILENCE__"

_NUMBERED = re.compile(r"(\d+) (.*)")
_PERSONA = re.compile(r"(your|partner's) persona: ?(.*)")
_USER = re.compile(r"\s*User ?([12])\s*:")
_CONVERSATIONS = ("Best Generated Conversation", "Conversation")


@dataclass(slots=True)
class _Side:
    """The conversation being read: where it began, and what the speaker is like."""

    start: int = 0
    persona: list[str] = field(default_factory=list)
    turns: int = 0


class PersonaChat(Reader):
    """ParlAI's text files: one, or every `*.txt` below a folder."""

    def check(self) -> None:
        """Raise `CorpusError` where there is no file."""
        self._files = files_of(self.settings, ["*.txt"], "*.txt files of ParlAI")

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row an exchange; kinds of lines: `exchanges`, `persona lines`, `blank lines`, `unreadable`."""
        for file in self._files:
            side = _Side()
            for number, text, problem in decoded_lines(file, "utf-8"):
                counts[READ] += 1
                where = f"{file.name}:{number}"
                kind, row = self._line(text, problem, side, number, where)
                counts[kind] += 1
                if row is not None:
                    yield row

    def names(self) -> Iterator[str]:
        """None: a persona is no name."""
        return iter(())

    def _line(
        self, text: str | None, problem: str | None, side: _Side, number: int, where: str
    ) -> tuple[str, RawRow | None]:
        if text is not None and not text.strip():
            return "blank lines", None
        match = _NUMBERED.fullmatch(text or "")
        if match is None:
            problem = problem or "the line is not a number and an utterance, as ParlAI writes them"
            return "unreadable", RawRow(where=where, source_id=where, task=self.task, problem=problem)
        if match[1] == "1":
            side.start, side.persona, side.turns = number, [], 0
        if persona := _PERSONA.fullmatch(match[2]):
            if persona[1] == "your":
                side.persona.append(persona[2].strip())
            return "persona lines", None
        query, _, rest = match[2].partition("\t")
        side.turns += 1
        dialogue = f"{where.partition(':')[0]}:{side.start}"
        return "exchanges", RawRow(
            where=where,
            source_id=f"{dialogue}:{side.turns}",
            task=self.task,
            user=persona_user(side.persona),
            query="" if query == SILENCE else query,
            response=rest.partition("\t")[0] or None,
            persona=list(side.persona),
            attributes={"dialogue": dialogue},
        )


class SyntheticPersonaChat(Reader):
    """The CSV files: one, or every `*.csv` below a folder."""

    def check(self) -> None:
        """Raise `CorpusError` where there is no file, or one without the three columns."""
        self._files = files_of(self.settings, ["*.csv"], "*.csv files of Synthetic-Persona-Chat")
        for file in self._files:
            next(csv_rows(file, _columns(next((cells for _, cells, _ in csv_records(file) if cells), []))), None)

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a turn; kinds of records: `conversations`, `blank lines`, `unreadable`."""
        for file in self._files:
            for number, (line, record, problem) in enumerate(csv_rows(file, ()), 1):
                counts[READ] += 1
                where = f"{file.name}:{line}"
                if record is None:
                    counts["unreadable" if problem else "blank lines"] += 1
                    if problem:
                        yield RawRow(where=where, source_id=where, task=self.task, problem=problem)
                    continue
                counts["conversations"] += 1
                first, second, conversation = (record[name] for name in _columns(list(record)))
                personas = {"1": _lines(first), "2": _lines(second)}
                turns = (
                    Turn(persona_user(personas[who]) if who else None, said, personas[who] if who else None)
                    for who, said in spoken(conversation, _USER)
                )
                yield from rows_of_turns(turns, where, self.task, f"{file.stem}:{number}")

    def names(self) -> Iterator[str]:
        """None: a persona is no name."""
        return iter(())


def _columns(header: list[str]) -> list[str]:
    """The names of the three columns in this file; the releases differ in case and in the last one."""
    by_lower = {name.lower(): name for name in header}
    wanted = ("user 1 personas", "user 2 personas")
    last = next((name for name in _CONVERSATIONS if name.lower() in by_lower), _CONVERSATIONS[0])
    return [by_lower.get(name.lower(), name) for name in (*wanted, last)]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
