"""Mentions of known users in text become `@user`.

A name in **address position** is masked: after `@`, or at the start of a text and followed by `:`, `,`, `>` or `;`.
Elsewhere a whole token that equals a name (case ignored, nick characters count as letters, trailing `_` and `` ` ``
and anything from `|` on may differ) is masked unless the corpus shows that the name is an **ordinary word**: more
than 20 uses elsewhere, and more than 4 times as many as (uses in address position + 1). An ordinary word before a
comma ("well, ...") is left alone too; before `:`, `;`, `>` or after `@` it is masked. Names shorter than 3
characters, and names without a letter, are masked in address position only.

Names of several words are masked as phrases, with a title before them or without; so is one long word of such a name
directly after a title ("Dr. Body"). The price of the rule: a user named like a rare word costs that word, and an
ordinary word used as a name in the middle of a text stays.

Time is linear in the text: one dictionary look-up a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

MASK = "@user"
TITLES = frozenset({"dr", "doctor", "prof", "professor", "mr", "mrs", "ms", "miss"})
SHORTEST = 3
"""Characters from which a name is masked outside address position."""
ORDINARY_USES, ORDINARY_RATIO = 20, 4

_TOKEN = re.compile(r"[\w\-\[\]\\^{}|`]+")
_WORD = re.compile(r"\w+")
_EDGES = "-[]{}|\\^`"

Span = tuple[int, int]


class Masker:
    """Masks mentions of `names`. Feed it texts with `learn` first, so that it knows which names are ordinary words.

    Memory grows with the number of names, never with the texts.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._uses: dict[str, list[int]] = {}  # name to [in address position, elsewhere]
        self._phrases: dict[str, set[tuple[str, ...]]] = {}
        self._parts: set[str] = set()
        self.masked = 0
        for name in names:
            words = _WORD.findall(name.lower())
            if len(name.split()) > 1 and len(words) > 1:
                self._add_phrase(words[1:] if words[0] in TITLES and len(words) > 2 else words)
            elif name.strip():
                self._uses.setdefault(name.strip().lower(), [0, 0])

    def _add_phrase(self, words: list[str]) -> None:
        self._phrases.setdefault(words[0], set()).add(tuple(words))
        self._parts.update(word for word in words if len(word) >= SHORTEST)

    def learn(self, text: str) -> None:
        """Count how the names occur in one text of the corpus."""
        for name, _, addressed, comma in self._hits(text):
            if addressed or not comma:
                self._uses[name][0 if addressed else 1] += 1

    def is_ordinary(self, name: str) -> bool:
        """Whether the texts learnt so far show that `name` is an ordinary word."""
        addressed, elsewhere = self._uses.get(name.lower(), (0, 0))
        return elsewhere > ORDINARY_USES and elsewhere > ORDINARY_RATIO * (addressed + 1)

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
        first = True
        for match in _TOKEN.finditer(text):
            found = self._name_in(match[0], match.start())
            if found is not None:
                name, (start, end) = found
                after_at = start > 0 and text[start - 1] == "@"
                opens = first and not text[:start].strip(" \t\n@<*")
                follows = text[end:].lstrip(_EDGES)[:1] if opens else ""
                yield name, (start - after_at, end), after_at or follows in {":", ";", ">"}, follows == ","
            first = False

    def _name_in(self, token: str, start: int) -> tuple[str, Span] | None:
        """The name a token stands for, with its place in the text."""
        if (low := token.lower()) in self._uses:
            return low, (start, start + len(token))
        if token.isalnum():
            return None
        # A client's suffix goes with the name; brackets around it stay.
        for core in (token.rstrip("_`"), token.partition("|")[0].rstrip("_`")):
            if core.lower() in self._uses:
                return core.lower(), (start, start + len(token))
        bare = token.strip(_EDGES)
        if bare.lower() in self._uses:
            at = start + token.index(bare)
            return bare.lower(), (at, at + len(bare))
        return None

    def _phrase_spans(self, text: str) -> list[Span]:
        words = [(match[0].lower(), match.start(), match.end()) for match in _WORD.finditer(text)]
        spans: list[Span] = []
        position = 0
        while position < len(words):
            titled = words[position][0] in TITLES
            length = self._phrase_length(words, position + titled, text, titled)
            if length:
                last = position + titled + length - 1
                spans.append((words[position][1], words[last][2]))
                position = last
            position += 1
        return spans

    def _phrase_length(self, words: list[tuple[str, int, int]], at: int, text: str, titled: bool) -> int:
        """Words of the longest name that starts at word `at`; words may be apart by spaces and dots only."""
        if at >= len(words) or (titled and text[words[at - 1][2] : words[at][1]].strip(" .")):
            return 0
        best = 0
        for phrase in self._phrases.get(words[at][0], ()):
            run = words[at : at + len(phrase)]
            gaps = (text[left[2] : right[1]] for left, right in pairwise(run))
            if tuple(word for word, _, _ in run) == phrase and not any(gap.strip(" .") for gap in gaps):
                best = max(best, len(phrase))
        return best or int(titled and words[at][0] in self._parts)

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
