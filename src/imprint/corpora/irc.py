"""Ubuntu IRC: the raw logs of the channel #ubuntu that were published for conversation disentanglement.

Provenance: Kummerfeld et al., "A Large-Scale Corpus for Conversation Disentanglement", ACL 2019, arXiv 1810.11118,
https://github.com/jkkummerfeld/irc-disentanglement, files `data/{train,dev,test}/YYYY-MM-DD[_HH].*raw.txt`; the logs
are those of irclogs.ubuntu.com. Licence as stated: CC BY 4.0. Rows: 173 days of 2004 to 2018, 221,619 messages, of
which about 4,700 by bots; 218,184 rows of 16,823 users (actions included).

The response is a message, or `* text` for an action (`/me`). The query is the one or two messages before it in the
log, whoever wrote them, without nicks. Files are taken in order of date; each is read whole (about 100 KB), one at a
time.

Users. Nicks are compared in lower case. `nick_`, ``nick` `` and `nick|away`-like forms (`AWAY`) are the nick itself:
they are what a person takes who is logged in twice or is away. The risk: a stranger who took `nick_` is counted as
`nick`. A trailing `^` or digit is not removed, for `bob` and `bob2` are mostly two people. `=== a is now known as b`
makes b the user a until b joins, leaves or is renamed again, and never beyond the file. Nicks that clients hand out
to anybody (`SHARED`) name nobody, so those rows have no user and end in quarantine.

Known defects: times are HH:MM, and until about 2007 on a 12-hour clock without am or pm. Where the clock of a file
goes backwards by more than 6 hours, 12 or 24 hours are added, whichever is the least that makes it go forwards: order
and distances within a file are right, an afternoon may be called a morning. Messages of one minute keep the order of
the log. Infobots (`BOTS`) are dropped and counted, and are no one's query. Old logs write actions as `=== nick text`.
The logs put a space after each `]` of a nick (removed). Notices (`-nick:#ubuntu-`) are spam to the whole channel:
counted, not rows. Colour codes and control characters are removed. Lines that are not UTF-8 are read as Latin-1 and
counted as such. A second file of equal content is skipped.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from imprint.corpora.reading import READ, RawRow, Reader, clean_text, need_folder
from imprint.errors import CorpusError

BOTS = re.compile(r"(?:ubottu|ubotu|lubotu|ubot|ubugtu|floodbot|meetingology|chanserv|nickserv)\d*")
SHARED = re.compile(r"(?:ubuntu|xubuntu|kubuntu|lubuntu|guest|user|root|admin|administrator|test|unknown|nobody|me)")
AWAY = re.compile(r"[|_\-\[](?:away|afk|brb|bnc|gone|busy|off|out|work|home|sleep|sleeping|zzz+|lunch|food|laptop)\]?$")

_FILE = re.compile(r"(\d{4}-\d\d-\d\d)(?:_(\d\d))?.*\.raw\.txt")
_NICK = r"((?:[^\s\]]|\] ?)+)"  # the logs put a space after every `]` of a nick
_SPOKEN = re.compile(rf"\[(\d\d):(\d\d)\] (?:<([^>]+)>| ?\* {_NICK})(?: (.*))?")
_NOTICE = re.compile(r"\[\d\d:\d\d\] -\S+:#\S+- ")
_RENAME = re.compile(rf"=== {_NICK} +is now known as {_NICK}\s*")
_PRESENCE = re.compile(rf"=== {_NICK} +\[.*\]\s+has (?:joined|left|quit)\b.*")
_SYSTEM = re.compile(rf"=== {_NICK} +(?:[\[(]|has (?:joined|left|quit)|was kicked|changed the topic|sets mode)")
_OLD_ACTION = re.compile(rf"=== {_NICK} +(.+)")
_COLOUR = re.compile(r"\x03(?:\d{1,2}(?:,\d{1,2})?)?")
_HALF_DAY = 12 * 60  # minutes


class Irc(Reader):
    """The corpus in any folder that has `YYYY-MM-DD*.raw.txt` files somewhere below."""

    def check(self) -> None:
        """Raise `CorpusError` where there is no log file."""
        folder = need_folder(self.settings, "YYYY-MM-DD*.raw.txt files")
        dated = ((_FILE.fullmatch(file.name), file) for file in folder.rglob("*.raw.txt"))
        self._files = sorted(
            ((match[1], match[2] or "", file.name, file) for match, file in dated if match),
            key=lambda item: (*item[:3], str(item[3])),
        )
        if not self._files:
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has no YYYY-MM-DD*.raw.txt anywhere below. "
                "Next: name the folder into which the corpus was unpacked."
            )

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a message or action. Kinds: `messages`, `actions`, `bot messages`, `renames`, `system lines`, ..."""
        seen: set[bytes] = set()
        for day, _, _, path in self._files:
            content = path.read_bytes()
            digest = hashlib.sha256(content).digest()
            if digest in seen:
                repeated = len(_lines(content))
                counts[READ] += repeated
                counts["lines of repeated files"] += repeated
                continue
            seen.add(digest)
            yield from _Log(path, day, self.settings.context_messages, self.task).rows(content, counts)

    @staticmethod
    def user_of(name: str) -> str | None:
        """The user behind a nick (`user_of` of this module). Renames hold inside one file, so none is followed here."""
        return user_of(name)

    def names(self) -> Iterator[str]:
        """Every nick of the logs (people who speak, join or change nick), lower case and as the user; no bots."""
        for _, _, _, path in self._files:
            for raw in _lines(path.read_bytes()):
                for nick in _nicks(_decoded(raw)[0]):
                    person = user_of(nick)
                    if person is not None and not BOTS.fullmatch(person):
                        yield person
                        yield _same(nick)


class _Log:
    """One file: its clock, its renames, and the last messages before the current one."""

    def __init__(self, path: Path, day: str, context: int, task: str) -> None:
        self.name, self.stem, self.task = path.name, path.name.removesuffix(".raw.txt"), task
        self._midnight = datetime.fromisoformat(day).replace(tzinfo=UTC)
        self._shown = self._added = 0  # minutes: the clock of the line above, and what was added to it
        self._people: dict[str, str] = {}
        self._before: deque[tuple[str, str | None]] = deque(maxlen=context)

    def rows(self, content: bytes, counts: Counter[str]) -> Iterator[RawRow]:
        """The file's rows; every line is counted under one kind."""
        for number, raw in enumerate(_lines(content), 1):
            line, latin = _decoded(raw)
            kind, row = self._read(line, number)
            counts[READ] += 1
            counts[f"{kind}, latin-1" if latin else kind] += 1
            if row is not None:
                yield row

    def _read(self, line: str, number: int) -> tuple[str, RawRow | None]:
        if spoken := _SPOKEN.fullmatch(line):
            minutes = self._clock(int(spoken[1]), int(spoken[2]))
            if spoken[3] is not None:
                return self._said("messages", spoken[3], spoken[5] or "", minutes, number)
            return self._said("actions", spoken[4], f"* {spoken[5] or ''}", minutes, number)
        if line.startswith("==="):
            return self._event(line, number)
        if _NOTICE.match(line) or not line.strip():
            return "notices" if line.strip() else "blank lines", None
        return self._unreadable(number)

    def _event(self, line: str, number: int) -> tuple[str, RawRow | None]:
        """A line about the channel; it changes who a nick is, or is an action of an old log."""
        if rename := _RENAME.fullmatch(line):
            self._rename(_same(rename[1]), _same(rename[2]))
            return "renames", None
        if presence := _PRESENCE.fullmatch(line):
            self._people.pop(_same(presence[1]), None)
            return "system lines", None
        if _SYSTEM.match(line):
            return "system lines", None
        if action := _OLD_ACTION.fullmatch(line):
            return self._said("actions", action[1], f"* {action[2]}", self._shown + self._added, number)
        return self._unreadable(number)

    def _unreadable(self, number: int) -> tuple[str, RawRow | None]:
        problem = "the line is no message, action, rename or system line of an IRC log"
        where = f"{self.name}:{number}"
        return "unreadable", RawRow(where=where, source_id=f"{self.stem}:{number}", task=self.task, problem=problem)

    def _said(self, kind: str, nick: str, text: str, minutes: int, number: int) -> tuple[str, RawRow | None]:
        person = self._people.get(_same(nick)) or user_of(nick)
        if person is not None and BOTS.fullmatch(person):
            return "bot messages", None
        text = plain(text)
        counterpart = self._before[-1][1] if self._before else None
        row = RawRow(
            where=f"{self.name}:{number}",
            source_id=f"{self.stem}:{number}",
            task=self.task,
            user=person,
            time=self._midnight + timedelta(minutes=minutes),
            query="\n".join(before for before, _ in self._before),
            response=text,
            attributes={"dialogue": self.stem} | ({"counterpart": counterpart} if counterpart else {}),
        )
        self._before.append((text, person))
        return kind, row

    def _clock(self, hour: int, minute: int) -> int:
        """Minutes since the midnight with which the file's date begins."""
        shown = hour * 60 + minute
        back = self._shown - shown
        if back > _HALF_DAY // 2:
            self._added += _HALF_DAY if back <= _HALF_DAY else 2 * _HALF_DAY
        self._shown = shown
        return shown + self._added

    def _rename(self, old: str, new: str) -> None:
        person = self._people.pop(old, None) or user_of(old)
        # From a shared nick to one's own: the person is the new nick, and what "guest" said before stays nobody's.
        self._people.pop(new, None)
        if person is not None and user_of(new) != person:
            self._people[new] = person


def user_of(nick: str) -> str | None:
    """The user behind a nick: lower case, without the suffixes of clients; None for a nick that clients hand out."""
    person = _same(nick)
    while (shorter := AWAY.sub("", person.rstrip("_`"))) != person and len(shorter) >= 2:
        person = shorter
    return None if SHARED.fullmatch(person) else person


def _same(nick: str) -> str:
    """The form in which nicks are compared."""
    return nick.lower().replace(" ", "")


def plain(text: str) -> str:
    """`text` without colour codes and control characters, tabs as spaces."""
    return clean_text(_COLOUR.sub("", text)).replace("\t", " ").strip()


def _nicks(line: str) -> Iterator[str]:
    if spoken := _SPOKEN.fullmatch(line):
        yield spoken[3] or spoken[4]
    elif match := _RENAME.fullmatch(line) or _PRESENCE.fullmatch(line):
        yield from match.groups()


def _lines(content: bytes) -> list[bytes]:
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def _decoded(raw: bytes) -> tuple[str, bool]:
    """The line and whether it had to be read as Latin-1."""
    try:
        return raw.decode("utf-8").rstrip("\r"), False
    except UnicodeDecodeError:
        return raw.decode("latin-1").rstrip("\r"), True
