"""Multi-Session Chat: two people who meet again over several sessions, each with a persona.

Provenance: Xu, Szlam, Weston, "Beyond Goldfish Memory: Long-Term Open-Domain Conversation", ACL 2022, arXiv
2107.07567; files of ParlAI (https://parl.ai/projects/msc/), `msc_dialogue/session_N/{train,valid,test}.txt` and
`msc_personasummary/session_N/...`. Licence: not stated in the files; ParlAI's code is MIT.
Rows: valid and test of sessions 1 to 3, with session 4 of the summaries: 1,001 pairs, 2,002 users, about 49,800 turns.

A user is `<initial_data_id>/<0|1>`: the speaker of even or of odd turns. Every session is used once: a line of
`msc_dialogue/session_3` holds sessions 1 to 3 of a pair, so that pair's line of `session_2` repeats them; a summary
file adds a session only where no dialogue file has it. The persona is what was known *before* the session (first the
one the speaker was given, then the summaries of earlier sessions), so no row's persona was written from its response.

Known defects: `.txt` files are JSON lines; turns of earlier sessions carry no speaker; a turn's `id` is sometimes a
worker number, so parity decides; gaps between sessions are free text, so there is no time, and the order of the source
decides; in 7 pairs the two copies of session 2 differ (the later file wins).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imprint.corpora.reading import READ, RawRow, Reader, decoded_lines, need_folder, refuse_unreadable
from imprint.errors import CorpusError

DIALOGUES, SUMMARIES = "msc_dialogue", "msc_personasummary"
Personas = list[list[str]]


class Msc(Reader):
    """MSC in any folder that has `msc_dialogue` somewhere below."""

    def check(self) -> None:
        """Raise `CorpusError` where there is no session file, or an empty one."""
        folder = need_folder(self.settings, f"{DIALOGUES}/session_N/*.txt")
        roots = [folder] if folder.name == DIALOGUES else sorted(folder.rglob(DIALOGUES))
        self._files = _session_files(roots[0]) if roots else []
        if not self._files:
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has no {DIALOGUES}/session_N/*.txt anywhere below. "
                "Next: name the folder into which MSC was unpacked."
            )
        for _, file in self._files:
            refuse_unreadable(file)

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a turn; kinds of lines: `dialogue lines`, `repeated lines`, `unreadable lines`, `blank lines`."""
        finished: dict[str, int] = {}  # pair to the last session that was given out
        for session, file in self._files:
            split = f"{file.parent.parent.name}/{file.parent.name}/{file.name}"
            for number, text, problem in decoded_lines(file, "utf-8"):
                counts[READ] += 1
                where = f"{split}:{number}"
                if text is not None and not text.strip():
                    counts["blank lines"] += 1
                    continue
                line = problem or _parsed(text or "", session, summary=file.parent.parent.name == SUMMARIES)
                if isinstance(line, str):
                    counts["unreadable lines"] += 1
                    yield RawRow(where=where, source_id=where, task=self.task, problem=line)
                    continue
                fresh = [part for part in line.sessions if part[0] > finished.get(line.pair, 0)]
                counts["dialogue lines" if fresh else "repeated lines"] += 1
                for part in fresh:
                    finished[line.pair] = part[0]
                    yield from self._turns(line.pair, part, where, file.stem)

    def _turns(self, pair: str, part: tuple[int, list[str], Personas], where: str, split: str) -> Iterator[RawRow]:
        session, texts, personas = part
        for turn, text in enumerate(texts):
            yield RawRow(
                where=where,
                source_id=f"{session}:{turn}",
                task=self.task,
                user=f"{pair}/{turn % 2}",
                query=texts[turn - 1] if turn else "",
                response=text,
                persona=personas[turn % 2],
                attributes={"dialogue": pair, "session": str(session), "file": split},
            )


class _Line:
    """One line: `sessions` is [(number from 1, texts, personas known before it)] in time order."""

    def __init__(self, value: dict[str, Any], session: int, summary: bool) -> None:
        if summary:
            self.pair = str(value["initial_data_id"])
            given = _personas(value["init_personachat"]["init_personas"])
            self.sessions = [(session, _texts(value["dialog"]), given)]
            return
        self.pair = str(value["metadata"]["initial_data_id"])
        known = _personas(value["init_personas"])
        self.sessions = []
        learned: Personas = [[], []]
        for number, earlier in enumerate(value["previous_dialogs"], 1):
            self.sessions.append((number, _texts(earlier["dialog"]), known))
            learned = [old + new for old, new in zip(learned, _personas(earlier["personas"]), strict=True)]
            known = learned
        self.sessions.append((session, _texts(value["dialog"]), _personas(value["personas"])))


def _parsed(text: str, session: int, summary: bool) -> _Line | str:
    """The line, or what is wrong with it."""
    try:
        return _Line(json.loads(text), session, summary)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        return f"the line is no MSC dialogue ({type(error).__name__})"


def _texts(turns: list[dict[str, Any]]) -> list[str]:
    texts = [turn["text"] for turn in turns]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    return [text.strip() for text in texts]


def _personas(value: list[list[str]]) -> Personas:
    first, second = value
    return [[str(line) for line in first], [str(line) for line in second]]


def _session_files(dialogues: Path) -> list[tuple[int, Path]]:
    """`(session, file)`: dialogues with the longest histories first, then summaries from the first session on."""

    def found(root: Path) -> list[tuple[int, Path]]:
        return sorted(
            (int(folder.name.removeprefix("session_")), file)
            for folder in root.glob("session_*")
            if folder.name.removeprefix("session_").isdigit()
            for file in folder.glob("*.txt")
        )

    own = sorted(found(dialogues), key=lambda item: (-item[0], item[1]))
    return own + found(dialogues.parent / SUMMARIES) if own else []
