"""Invariants that every method has to keep, as functions that find a breach; the tests show each one a cheat."""

from __future__ import annotations

from dataclasses import replace

from toys import in_use, invented_rows, score_alone, tiny_model

from imprint.base.fit import fit
from imprint.base.loss import mean_loss
from imprint.base.settings import FitSettings
from imprint.personalizers.past import Past
from imprint.personalizers.protocol import question_of
from imprint.personalizers.settings import (
    CompareSettings,
    PlugSettings,
    RecentHistorySettings,
    RetrievalSettings,
    TunedHistorySettings,
    UserLLMSettings,
)

USERS = ("ann", "bob", "cleo")
KNOWN = 10
"""Interactions of each user that a method is fitted on; the next ones are asked."""


class Clairvoyant(Past):
    """A cheat: everything it was ever given precedes every question."""

    def places_before(self, question):
        return len(self.rows_of(question.user_id))


SHORT = FitSettings(learning_rate=1e-3, epochs=1, batch_rows=8)


def compare_settings(*methods, budget=100, plug=None, **user_llm):
    """A comparison of these methods, small; `plug` and `user_llm` are changes to Persona-Plug's and User-LLM's."""
    return CompareSettings(
        methods=methods,
        budget_tokens=budget,
        taught_by=("background",),
        recent_history=RecentHistorySettings(),
        retrieval=RetrievalSettings(),
        tuned_history=TunedHistorySettings(fit=SHORT),
        persona_plug=PlugSettings(**{"fit": SHORT, **(plug or {})}),
        user_llm=UserLLMSettings(**{"pretrain": SHORT, "fit": SHORT, **user_llm}),
    )


def asked_as(user_id, rows):
    """The same rows, as if that user asked."""
    return [replace(row, user_id=user_id) for row in rows]


def with_events(rows):
    """The same interactions, each about an item with a rating and one or two categories."""
    return [
        replace(
            row,
            attributes=(
                ("item", f"i{row.order % 5}"),
                ("rating", str(1 + row.order % 3)),
                ("categories", "drama | war" if row.order % 2 else "drama"),
            ),
        )
        for row in rows
    ]


def histories():
    """What each user said and was asked, up to the interactions that `asked_rows` asks for."""
    return {user: with_events(invented_rows(user, KNOWN)) for user in USERS}


def asked_rows(count=3):
    """Later interactions of every user, users mixed."""
    by_user = [with_events(invented_rows(user, count, seed=1, first=KNOWN)) for user in USERS]
    return [row for together in zip(*by_user, strict=True) for row in together]


def answers(method, rows):
    """What a method makes of rows: nats and texts."""
    nats = [scored.nats for scored in method.score(rows)]
    return nats, method.respond([question_of(row) for row in rows], 6)


def planted(rows):
    """The rows themselves, and answers after them, that nothing asked of `rows` may be answered with."""
    later = [replace(row, record_id=f"{row.record_id}-later", order=row.order + 100) for row in rows]
    return [*rows, *later]


def sees_the_future(make):
    """Whether a method made by `make` answers otherwise once it was fitted on the asked rows and on later ones."""
    rows = asked_rows()
    blind, offered = make(), make()
    blind.fit(histories())
    offered.fit(
        {user: [*past, *planted(row for row in rows if row.user_id == user)] for user, past in histories().items()}
    )
    # each place is asked alone: what is between an early and a late question is past to the late one
    first = [row for row in rows if row.order == KNOWN]
    return not same(answers(blind, first), answers(offered, first))


def clairvoyant(make):
    """Makes the same method, cheating."""

    def cheat():
        method = make()
        method._conditioner.past = Clairvoyant("cheat")
        return method

    return cheat


def sees_its_company(make):
    """Whether an answer depends on which other rows are in the batch."""
    rows = asked_rows()
    method = make()
    method.fit(histories())
    nats, texts = answers(method, rows)
    alone = [answers(method, [row]) for row in rows]
    return not same((nats, texts), ([one[0][0] for one in alone], [one[1][0] for one in alone]))


def sees_its_response(make):
    """Whether the score of a response depends on words of it beyond those that are scored.

    A response is scored up to a number of tokens. Two that differ only after that are one to an honest method; one that
    looks at the response for what to put before it tells them apart.
    """
    method = make()
    method.fit(histories())
    ends = [
        [replace(row, response=f"{'river ' * 40}{end} " * 3) for row in asked_rows(1)] for end in ("silver", "window")
    ]
    return not close(*([scored.nats for scored in method.score(rows)] for rows in ends))


def forgets(make):
    """Whether a forgotten user is unknown and nobody else's answers change."""
    from imprint.errors import UnknownUserError

    rows = asked_rows()
    method = make()
    method.fit(histories())
    others = [row for row in rows if row.user_id != "ann"]
    before = answers(method, others)
    method.forget("ann")
    method.forget("ann")
    if not same(answers(method, others), before):
        return False
    try:
        method.score([row for row in rows if row.user_id == "ann"])
    except UnknownUserError:
        return True
    return False


def same(one, other):
    return close(one[0], other[0]) and one[1] == other[1]


def close(one, other):
    return all(abs(a - b) <= 1e-4 * abs(a) for a, b in zip(one, other, strict=True))


EIGHT = ("apple", "river", "stone", "cloud", "green", "quiet", "table", "window")


def one_word(user, word, count, first=0):
    """Interactions of a user who only ever says one word, twice."""
    return [replace(row, response=f"{word} {word}") for row in invented_rows(user, count, first=first)]


def repeating_base(tokenizer):
    """A small model that was taught to repeat what it is told first: one that soft tokens can tell something."""
    base = in_use(tiny_model("llama", tokenizer), tokenizer)
    rows = [
        replace(row, query=f"{word} {row.query}") for word in EIGHT for row in one_word(f"of {word}", word, 12, first=0)
    ]
    base.model.requires_grad_(True)
    settings = FitSettings(learning_rate=1e-2, epochs=12, batch_rows=16)
    fit(base.model, base.model.parameters(), base.encoder.examples(rows), settings, 0)
    base.model.requires_grad_(False)
    return in_use(base.model, tokenizer)


def losses_of_new_users(method, base):
    """Loss of two new one-word users known by their own histories, by each other's, and under the base alone."""
    new = {"new-apple": one_word("new-apple", "apple", 6), "new-stone": one_word("new-stone", "stone", 6)}
    asked = [*one_word("new-apple", "apple", 4, 6), *one_word("new-stone", "stone", 4, 6)]
    method.fit(new)
    own = mean_loss(method.score(asked))
    method.fit({"new-apple": new["new-stone"], "new-stone": new["new-apple"]})
    return own, mean_loss(method.score(asked)), mean_loss(score_alone(base.model, base.encoder.examples(asked)))
