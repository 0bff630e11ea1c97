"""Requests for answers: JSON lines of `{"user_id" or "user", "query"}`, for many users at once.

`user_id` is a pseudonym, `user` a raw id of the corpus. A user with a memory is answered by it; one of the corpus with
too few interactions for a memory by the pooled model, and the answer says so; anybody else is refused by name. A line
that cannot be answered stops nobody else's.

A request is brought into the corpus's own terms before anything else: names by the rule of the corpus's reader, then to
pseudonyms; queries with the names masked that ingest masked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from imprint.corpora import CorpusSettings, user_named
from imprint.data.masking import KnownNames, Masker
from imprint.data.pseudonyms import name_hash, pseudonym
from imprint.errors import CorpusError, SettingsError, UnknownUserError
from imprint.memory.store import MemoryStore
from imprint.personalizers.protocol import Personalizer, Question
from imprint.storage import address, fetch

REQUESTS_AT_ONCE = 256
"""Requests put to a method in one call: enough to fill a pass, few enough to see progress."""

EXAMPLE = '{"user": "raw id", "query": "how are you?"}'


class RespondSettings(BaseModel):
    """Which requests are answered, and how long an answer may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: str = Field(description="JSON lines, each with a query and a user_id (pseudonym) or user (raw id).")
    max_new_tokens: int = Field(default=32, ge=1, description="Tokens a response may have.")


class Request(NamedTuple):
    """A request that can be answered, the line it stood in, and by which method: `memory` or `pooled`."""

    line: int
    question: Question
    answered_by: str


class CorpusTerms:
    """What makes of names and texts in a request what ingest made of those in the corpus."""

    def __init__(self, corpus: CorpusSettings, key: bytes, known_names: Mapping[str, Any]) -> None:
        """`known_names` is the `KnownNames` that ingest left.

        `SettingsError` where they are of another corpus or key: nobody's name would be masked, and no raw id known.
        """
        self._corpus, self._key = corpus, key
        hashed, known = partial(name_hash, key, corpus.corpus_name), KnownNames(**known_names)
        if known.made_with != hashed(""):
            raise SettingsError(
                f"corpus: format {corpus.format!r} and name {corpus.corpus_name!r} given, but the interactions at hand "
                "were ingested as another corpus or with another pseudonym key. Next: give respond the --env and the "
                "--params of the run that made the memories."
            )
        self._masker = Masker.knowing(known, hashed)

    def user_id(self, name: str) -> str:
        """The pseudonym of the user a person calls `name`; a name that is nobody's gives one that no user has."""
        raw = user_named(self._corpus.format, name)
        return pseudonym(self._key, self._corpus.corpus_name, raw or "")

    def query(self, text: str) -> str:
        """`text` with the mentions masked that ingest would have masked."""
        return self._masker.mask(text)


def users_asking(path: Path, terms: CorpusTerms) -> set[str]:
    """The user_ids that requests in a file name, known or not; what cannot be read as a request names nobody.

    Whose memories are to be opened is thus known before any is. `CorpusError` if there is no such file.
    """
    found = set()
    for _, content in _lines(path):
        with suppress(ValueError, RecursionError):
            found.add(_question(_parse(content), terms).user_id)
    return found


def read_requests(
    path: Path, store: MemoryStore, sparse: Collection[str], terms: CorpusTerms
) -> tuple[list[Request], list[dict[str, Any]]]:
    """The answerable requests, and a record `{line, user, error}` of each refused one.

    `sparse` are users of the corpus without a memory. `CorpusError` if there is no such file.
    """
    requests, refused = [], []
    for line, content in _lines(path):
        asked: dict[str, Any] = {}
        try:
            asked = _parse(content)
            question = _question(asked, terms)
            requests.append(Request(line, question, _answered_by(question.user_id, asked, store, sparse)))
        except (ValueError, RecursionError, UnknownUserError) as error:
            user = asked.get("user_id", asked.get("user"))
            refused.append({"line": line, "user": user, "error": str(error)})
    return requests, refused


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if not fetch(path).is_file():
        raise CorpusError(
            f"respond.requests: {address(path)!r} is not a file; needed are JSON lines such as {EXAMPLE}. "
            "Next: write that file, or give another with --params respond.requests=FILE."
        )
    with path.open("rb") as stream:
        yield from enumerate(stream, start=1)


def answer(
    methods: Sequence[Personalizer],
    requests: Sequence[Request],
    max_new_tokens: int,
    on_request: Callable[[int, int], None] = lambda done, requests: None,
) -> list[dict[str, Any]]:
    """One record `{line, user_id, query, answered_by, response}` a request, in order; `methods` by their names.

    `on_request(done, requests)` is called whenever some are answered, for a progress bar.
    """
    texts: dict[int, str] = {}
    for method in methods:
        mine = [request for request in requests if request.answered_by == method.name]
        mine.sort(key=lambda request: request.question.user_id)  # a memory is loaded once for all its user asks
        for start in range(0, len(mine), REQUESTS_AT_ONCE):
            some = mine[start : start + REQUESTS_AT_ONCE]
            answers = method.respond([request.question for request in some], max_new_tokens)
            texts.update(zip((request.line for request in some), answers, strict=True))
            on_request(len(texts), len(requests))
    return [
        {
            "line": request.line,
            "user_id": request.question.user_id,
            "query": request.question.query,
            "answered_by": request.answered_by,
            "response": texts[request.line],
        }
        for request in requests
    ]


def _parse(content: bytes) -> dict[str, Any]:
    asked = json.loads(content.decode())  # both failures are ValueErrors
    if isinstance(asked, dict):
        return asked
    raise ValueError(f"not a JSON object; next: write it as {EXAMPLE}.")


def _question(asked: dict[str, Any], terms: CorpusTerms) -> Question:
    query, user_id, raw = asked.get("query"), asked.get("user_id"), asked.get("user")
    if not isinstance(query, str):
        raise ValueError(f"query: {query!r} given; needed is text. Next: write the line as {EXAMPLE}.")
    if (user_id is None) == (raw is None):
        raise ValueError(f"user_id or user: one of the two is needed. Next: write the line as {EXAMPLE}.")
    query.encode()  # a lone surrogate is refused here (UnicodeEncodeError is a ValueError)
    return Question(str(user_id) if user_id is not None else terms.user_id(str(raw)), terms.query(query))


def _answered_by(user_id: str, asked: dict[str, Any], store: MemoryStore, sparse: Collection[str]) -> str:
    if user_id in store:
        return "memory"
    if user_id in sparse:
        return "pooled"
    raise UnknownUserError(str(asked.get("user_id", asked.get("user"))), f"memory store {store.directory.name}")
