"""What corpora of conversations share: turns one after another, and speakers written into the text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from imprint.corpora.reading import RawRow


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation; `user` is None where the speaker is nobody in particular."""

    user: str | None
    text: str
    persona: list[str] | None = None
    attributes: dict[str, str] = field(default_factory=dict)


def rows_of_turns(turns: Iterable[Turn], where: str, task: str, dialogue: str) -> Iterator[RawRow]:
    """A row a turn: the response is the turn, the query the turn before it, empty at the start.

    `dialogue` names the conversation, and with the turn's number the row; `where` is the file or line it is in.
    """
    before: Turn | None = None
    for number, turn in enumerate(turns):
        counterpart = {"counterpart": before.user} if before and before.user else {}
        yield RawRow(
            where=f"{where}, turn {number + 1}",
            source_id=f"{dialogue}:{number}",
            task=task,
            user=turn.user,
            query=before.text if before else "",
            response=turn.text,
            persona=turn.persona,
            attributes={"dialogue": dialogue, **counterpart, **turn.attributes},
        )
        before = turn


def spoken(text: str, speaker: re.Pattern[str]) -> list[tuple[str | None, str]]:
    """`(speaker, words)` of a text in which `speaker` begins the lines at which somebody starts to speak.

    Its first group is the speaker. Other lines go on with the turn above; before the first speaker they are nobody's.
    """
    turns: list[tuple[str | None, list[str]]] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if match := speaker.match(line):
            turns.append((match[1], [line[match.end() :].strip()]))
        elif turns:
            turns[-1][1].append(line.strip())
        elif line.strip():
            turns.append((None, [line.strip()]))
    return [(who, "\n".join(lines).strip()) for who, lines in turns]


def persona_user(lines: Iterable[str]) -> str | None:
    """The user behind a persona: equal lines in any order and case are one; None where there is no line."""
    known = sorted({" ".join(line.lower().split()) for line in lines} - {""})
    return "persona-" + hashlib.sha256("\n".join(known).encode()).hexdigest()[:16] if known else None
