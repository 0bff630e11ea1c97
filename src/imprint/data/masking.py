"""Mentions of known users in text become `@user`.

A name in **address position** is masked: after `@`, or at the start of a text and followed by `:`, `,`, `>` or `;`.
Elsewhere a whole token that equals a name (case ignored, nick characters count as letters, trailing `_` and `` ` ``
and anything from `|` on may differ) is masked unless the corpus shows that the name is an **ordinary word**: more
than 20 uses elsewhere, and more than 4 times as many as (uses in address position + 1). An ordinary word before a
comma ("well, ...") is left alone too; before `:`, `;`, `>` or after `@` it is masked. Names shorter than 3
characters, and names without a letter, are masked in address position only.

A name with dots, `@`, `+` or an apostrophe in it (an address, "O'Brien") is masked where it stands just so; one with
`@` is never an ordinary word.

Names of several words are masked as phrases, with a title before them or without; so is one long word of such a name
directly after a title ("Dr. Body"). The price of the rule: a user named like a rare word costs that word, and an
ordinary word used as a name in the middle of a text stays.

Time is linear in the text: a few dictionary look-ups a token.

What ingest knew of names outlives it as `KnownNames`: keyed hashes in which a later text's words are looked up one by
one, so that requests are masked like the corpus and no name is stored in clear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

MASK = "@user"
TITLES = frozenset({"dr", "doctor", "prof", "professor", "mr", "mrs", "ms", "miss"})
SHORTEST = 3
"""Characters from which a name is masked outside address position."""
ORDINARY_USES, ORDINARY_RATIO = 20, 4

_TOKEN = re.compile(r"[\w\-\[\]\\^{}|`]+")
_JOINS = ".@+'’"
"""What may stand between the tokens of one name."""
_MOST_JOINED = 8
_GAPS = " .-'’"
"""What may stand between the words of a name of several words."""
_WORD = re.compile(r"\w+")
_EDGES = "-[]{}|\\^`"

Span = tuple[int, int]
Hash = Callable[[str], str]
"""A name, or a word of one, in lower case to what it is known by."""


class KnownNames(BaseModel):
    """Names as hashes, sorted, so that their order tells nothing; empty where a corpus is not masked.

    `made_with` is the hash of the empty name: another corpus name or key gives another, and finds none of the names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    made_with: str
    names: tuple[str, ...] = ()
    ordinary: tuple[str, ...] = ()  # names that the corpus showed to be ordinary words
    phrases: tuple[tuple[str, ...], ...] = ()  # the words of each name of several words
    parts: tuple[str, ...] = ()  # words of such names that are masked after a title


def in_clear(name: str) -> str:
    """The hash of a masker that is never stored: none."""
    return name


def _plain(name: str) -> str:
    return name.lower().replace("’", "'")


class Masker:
    """Masks mentions of `names`. Feed it texts with `learn` first, so that it knows which names are ordinary words.

    Memory grows with the number of names, never with the texts.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._hash: Hash = in_clear
        self._uses: dict[str, list[int]] = {}  # name to [in address position, elsewhere]
        self._ordinary: frozenset[str] = frozenset()  # known to be so without counts
        self._phrases: dict[str, set[tuple[str, ...]]] = {}
        self._parts: set[str] = set()
        self.masked = 0
        for name in names:
            words = _WORD.findall(name.lower())
            if len(name.split()) > 1 and len(words) > 1:
                self._add_phrase(words[1:] if words[0] in TITLES and len(words) > 2 else words)
            elif bare := _plain(name.strip().strip(_JOINS)):
                self._uses.setdefault(bare, [0, 0])

    @classmethod
    def knowing(cls, known: KnownNames, hashed: Hash) -> Masker:
        """A masker of the names behind `known`, which `hashed` made: it masks as the one did that they came from."""
        masker = cls(())
        masker._hash = hashed
        masker._uses = {name: [0, 0] for name in known.names}
        masker._ordinary = frozenset(known.ordinary)
        for phrase in known.phrases:
            masker._phrases.setdefault(phrase[0], set()).add(phrase)
        masker._parts = set(known.parts)
        return masker

    def known_names(self, hashed: Hash) -> KnownNames:
        """What this masker knows, in the hashes that `hashed` gives for clear names."""
        phrases = {tuple(map(hashed, phrase)) for phrases in self._phrases.values() for phrase in phrases}
        return KnownNames(
            made_with=hashed(""),
            names=tuple(sorted(map(hashed, self._uses))),
            ordinary=tuple(sorted(hashed(name) for name in self._uses if self.is_ordinary(name))),
            phrases=tuple(sorted(phrases)),
            parts=tuple(sorted(map(hashed, self._parts))),
        )

    def _add_phrase(self, words: list[str]) -> None:
        self._phrases.setdefault(words[0], set()).add(tuple(words))
        self._parts.update(word for word in words if len(word) >= SHORTEST)

    def learn(self, text: str) -> None:
        """Count how the names occur in one text of the corpus."""
        for name, _, addressed, comma in self._hits(text):
            if addressed or not comma:
                self._uses[self._hash(name)][0 if addressed else 1] += 1

    def is_ordinary(self, name: str) -> bool:
        """Whether the texts learnt so far, here or by the masker behind `knowing`, show that `name` is one."""
        known = self._hash(name.lower())
        addressed, elsewhere = self._uses.get(known, (0, 0))
        shown = elsewhere > ORDINARY_USES and elsewhere > ORDINARY_RATIO * (addressed + 1)
        return "@" not in name and (shown or known in self._ordinary)

    def mask(self, text: str) -> str:
        """`text` with every mention replaced by `@user`; `masked` counts them."""
        spans = self._phrase_spans(text) if self._phrases else []
        for name, span, addressed, comma in self._hits(text):
            telling = comma or (len(name) >= SHORTEST and any(map(str.isalpha, name)))
            if addressed or (telling and not self.is_ordinary(name)):
                spans.append(span)
        return self._replaced(text, sorted(spans)) if spans else text

    def _hits(self, text: str) -> Iterator[tuple[str, Span, bool, bool]]:
        """`(name, span, in address position, at the start before a comma)` for each token that is a name."""
        first, done = True, 0
        for match in _TOKEN.finditer(text):
            if match.start() < done:  # within a name that was found
                continue
            found = self._joined_at(text, match) or self._name_in(match[0], match.start())
            if found is not None:
                name, (start, end) = found
                done = end
                after_at = start > 0 and text[start - 1] == "@"
                opens = first and not text[:start].strip(" \t\n@<*")
                follows = text[end:].lstrip(_EDGES)[:1] if opens else ""
                yield name, (start - after_at, end), after_at or follows in {":", ";", ">"}, follows == ","
            first = False

    def _joined_at(self, text: str, token: re.Match[str]) -> tuple[str, Span] | None:
        """The longest name of several tokens, without space between them, that begins with this one."""
        start, end, best = token.start(), token.end(), None
        for _ in range(_MOST_JOINED - 1):
            if end == len(text) or text[end] not in _JOINS or not (following := _TOKEN.match(text, end + 1)):
                break
            end = following.end()
            if self._is_name(low := _plain(text[start:end])):
                best = low, (start, end)
        return best

    def _name_in(self, token: str, start: int) -> tuple[str, Span] | None:
        """The name a token stands for, with its place in the text."""
        if self._is_name(low := token.lower()):
            return low, (start, start + len(token))
        if token.isalnum():
            return None
        # A client's suffix goes with the name; brackets around it stay.
        for core in (token.rstrip("_`"), token.partition("|")[0].rstrip("_`")):
            if self._is_name(core.lower()):
                return core.lower(), (start, start + len(token))
        bare = token.strip(_EDGES)
        if self._is_name(bare.lower()):
            at = start + token.index(bare)
            return bare.lower(), (at, at + len(bare))
        return None

    def _is_name(self, low: str) -> bool:
        return self._hash(low) in self._uses

    def _phrase_spans(self, text: str) -> list[Span]:
        words = [(match[0].lower(), match.start(), match.end()) for match in _WORD.finditer(text)]
        known = [self._hash(word) for word, _, _ in words]
        spans: list[Span] = []
        position = 0
        while position < len(words):
            titled = words[position][0] in TITLES
            length = self._phrase_length(words, known, position + titled, text, titled)
            if length:
                last = position + titled + length - 1
                spans.append((words[position][1], words[last][2]))
                position = last
            position += 1
        return spans

    def _phrase_length(
        self, words: list[tuple[str, int, int]], known: list[str], at: int, text: str, titled: bool
    ) -> int:
        """Words of the longest name that starts at word `at`; words may be apart by `_GAPS` only.

        `known` holds what each word is known by.
        """
        if at >= len(words) or (titled and text[words[at - 1][2] : words[at][1]].strip(" .")):
            return 0
        best = 0
        for phrase in self._phrases.get(known[at], ()):
            run = words[at : at + len(phrase)]
            gaps = (text[left[2] : right[1]] for left, right in pairwise(run))
            if tuple(known[at : at + len(phrase)]) == phrase and not any(gap.strip(_GAPS) for gap in gaps):
                best = max(best, len(phrase))
        return best or int(titled and known[at] in self._parts)

    def _replaced(self, text: str, spans: list[Span]) -> str:
        pieces: list[str] = []
        done = 0
        for start, end in spans:
            if start < done:  # inside a phrase that is masked already
                continue
            pieces += [text[done:start], MASK]
            done = end
            self.masked += 1
        return "".join([*pieces, text[done:]])
