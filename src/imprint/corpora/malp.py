"""MaLP: invented patients who ask a medical assistant.

Provenance: Zhang, Kang, Zhao, Liu, "LLM-based Medical Assistant Personalization with Short- and Long-Term Memory
Coordination", NAACL 2024, arXiv 2309.11696, https://github.com/MatthewKKai/MaLP, `data/dialogues_3_cleaned.json` and
`data/dialogues2_cleaned.json`; one of the data sets of MiLP. Licence as stated: MIT (of the repository). Rows: 555
conversations of six rounds in `dialogues_3_cleaned.json`. Two language models wrote them, one of them from a profile.

A file is a list of conversations, a conversation a list of rounds `{"0": {"Assistant": …, "User": …}}`. The user is
the patient of one conversation, `<file>/<place>`. The query is what the patient says, the response what the assistant
says to it: the assistant's words of the next round, but in the last round of six those of the same round, for there
the generator let the patient speak first. The assistant's opening answers nobody and is left out.

Known defects: turns begin with "Doctor:", "Patient:" or a quotation mark, or not (removed); some hold a whole
conversation in one turn, a few swap the roles. The profiles (`profiles_4.json`: 3,283) carry no key to the cleaned
conversations, so rows have no persona. Conversations may hold invented names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from imprint.corpora.reading import READ, RawRow, Reader
from imprint.corpora.records import files_of, json_list
from imprint.errors import CorpusError

LAST_ROUND = 5
"""Number of the round in which the patient speaks before the assistant (the generator's six rounds count from 0)."""

_ROLE = re.compile(r'^"?\s*(?:Doctor|Patient|Assistant|User)\s*:\s*', re.IGNORECASE)


class Malp(Reader):
    """One file of conversations, or every `dialogues*.json` below a folder."""

    tasks = ("answer",)

    def check(self) -> None:
        """Raise `CorpusError` where there is no file, or its first element is no conversation."""
        self._files = files_of(self.settings, ["dialogues*.json"], "dialogues*.json files")
        for file in self._files:
            if not isinstance(next(json_list(file), None), list):
                raise CorpusError(
                    f"{file.name} is not a list of conversations, each a list of rounds. "
                    "Next: name the folder `data` of MaLP; profiles are not conversations."
                )

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row an answer; kinds of conversations: `conversations`, `unreadable`."""
        for file in self._files:
            for place, conversation in enumerate(json_list(file), 1):
                counts[READ] += 1
                user = f"{file.stem}/{place}"
                rounds = _rounds(conversation)
                if rounds is None:
                    counts["unreadable"] += 1
                    problem = "the conversation is not a list of rounds of Assistant and User"
                    yield RawRow(where=f"{file.name}:{place}", source_id=user, task=self.task, problem=problem)
                    continue
                counts["conversations"] += 1
                for number, (said, answered) in enumerate(_answered(rounds), 1):
                    yield RawRow(
                        where=f"{file.name}:{place}, turn {number}",
                        source_id=str(number),
                        task=self.task,
                        user=user,
                        query=said,
                        response=answered,
                        attributes={"dialogue": user},
                    )

    def names(self) -> Iterator[str]:
        """None: patients are numbers."""
        return iter(())


def _rounds(conversation: Any) -> list[tuple[int, str, str]] | None:
    """`(number, assistant's words, patient's words)` of each round, None where the conversation is broken."""
    if not isinstance(conversation, list):
        return None
    try:
        return [
            (int(number), said_plainly(turn["Assistant"]), said_plainly(turn["User"]))
            for one in conversation
            for number, turn in one.items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _answered(rounds: list[tuple[int, str, str]]) -> Iterator[tuple[str, str]]:
    """What the patient says, and what is said to it."""
    for place, (number, assistant, patient) in enumerate(rounds):
        if number == LAST_ROUND:
            yield patient, assistant
        elif place + 1 < len(rounds) and rounds[place + 1][0] != LAST_ROUND:
            yield patient, rounds[place + 1][1]


def said_plainly(text: str) -> str:
    """A turn without the role and the quotation marks around it. Raises `TypeError` for what is no text."""
    if not isinstance(text, str):
        raise TypeError
    plain = _ROLE.sub("", text.strip())
    return plain.removeprefix('"').removesuffix('"').strip()
