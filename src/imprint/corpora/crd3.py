"""CRD3: the transcripts of Critical Role, a live-streamed game with a fixed cast.

Provenance: Rameshkumar and Bailey, "Storytelling with Dialogue: A Critical Role Dungeons and Dragons Dataset", ACL
2020, https://github.com/RevanthRameshkumar/CRD3, `data/cleaned data/C<campaign>E<episode>.json`. Licence as stated: CC
BY-SA 4.0. Rows: 159 episodes, 398,682 turns, 18 speakers with 500 turns and more.

The response is a turn, the query the turn before it in the episode. A user is a speaker's name in lower case. Turns of
several speakers at once (2,176) and of roles (`ALL`, `AUDIENCE`, `CREW`, a telephone: `ROLES`) have no user and end in
quarantine; they are still queries. The alignments with summaries (`aligned data`) repeat the turns and are not read.

Known defects: an utterance is broken into the lines of its captions (joined by spaces here); 22,913 turns hold marks
such as `[laughter]` (kept: they are part of the transcript); there is no time, so campaign, episode and number order
the turns; the speakers are real people, and first names such as `will` and `mark` are ordinary words, which masking
leaves alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imprint.corpora.reading import READ, RawRow, Reader
from imprint.corpora.records import files_of
from imprint.corpora.turns import Turn, rows_of_turns
from imprint.errors import CorpusError

ROLES = frozenset(
    {
        "all", "audience", "audience member", "cast", "crew", "announcer", "sound", "offscreen", "producer", "iphone",
        "cameraman", "toy in bag",
    }
)  # fmt: skip

_EPISODE = re.compile(r"C(\d+)E(\d+)\.json")


class Crd3(Reader):
    """Every episode below a folder, or one episode."""

    def check(self) -> None:
        """Raise `CorpusError` where there is no episode."""
        files = files_of(self.settings, ["C*E*.json"], "C<campaign>E<episode>.json files")
        numbered = sorted((_number(file), file) for file in files if _EPISODE.fullmatch(file.name))
        if not numbered:
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has no file named like C1E001.json. "
                "Next: name the folder `data/cleaned data` of the corpus."
            )
        self._files = [file for _, file in numbered]

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a turn; kinds: `turns`, `turns of several or of roles`, `unreadable`. An episode is read whole."""
        for file in self._files:
            turns: list[Turn] = []
            for place, record in enumerate(_records(file)):
                counts[READ] += 1
                turn = _turn(record)
                if turn is None:
                    counts["unreadable"] += 1
                    where, problem = f"{file.name}:{place}", "the turn has no names and utterances"
                    yield RawRow(
                        where=where, source_id=f"{file.stem}:unreadable {place}", task=self.task, problem=problem
                    )
                    continue
                counts["turns" if turn.user else "turns of several or of roles"] += 1
                turns.append(turn)
            yield from rows_of_turns(turns, file.name, self.task, file.stem)

    @staticmethod
    def user_of(name: str) -> str | None:
        """A speaker by the name on the screen; None for a role."""
        return speaker([name])


def _records(file: Path) -> list[Any]:
    try:
        records = json.loads(file.read_bytes())["TURNS"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(
            f"{file.name} is not an episode of CRD3: it has no TURNS ({type(error).__name__}). "
            "Next: fetch the file again, or name the folder `data/cleaned data`."
        ) from error
    return records if isinstance(records, list) else [records]


def _turn(record: Any) -> Turn | None:
    names, lines = (record.get("NAMES"), record.get("UTTERANCES")) if isinstance(record, dict) else (None, None)
    if not (isinstance(names, list) and isinstance(lines, list) and all(isinstance(line, str) for line in lines)):
        return None
    return Turn(speaker(names), " ".join(line.strip() for line in lines).strip())


def speaker(names: list[Any]) -> str | None:
    """The one speaker of a turn; None for several, and for a role."""
    name = str(names[0]).strip().lower() if len(names) == 1 else ""
    return None if not name or name in ROLES or name.startswith("all -") else name


def _number(file: Path) -> tuple[int, int]:
    match = _EPISODE.fullmatch(file.name)
    return (int(match[1]), int(match[2])) if match else (0, 0)
