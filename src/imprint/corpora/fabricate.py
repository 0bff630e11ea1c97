"""The fabricated corpus: seeded users with known style, opinions and private facts. The embedded default.

Provenance: made here, from `vocabulary`; nobody is behind it. Licence: that of Imprint. Rows with the shipped
parameters: 36 users with 104 interactions and 160 background users with 24, 7,584 in all. Known defects: none; it is
easier than life.

Every user has a style (opener, filler, sign-off, emoticon, case and punctuation), five topics with a fixed opinion
each, nine facts that the user gives and five that the user never gives. Interactions are of three kinds (attribute
`kind`): `chat` (small talk: an opinion on a topic, or a fact mentioned in passing), `fact` (a question about a given
fact) and `absent` (a question about a fact never given: the user says so, always in the same form). Attributes `fact`
and `value` name the fact and its value, both empty where there is none.

The time line has three stages: up to 70 %, up to 85 %, the rest (`vocabulary`: questions by stage). What is asked in
a later stage was asked or told in the first one, in other words: a test query is new, its response is known from the
user's own history and from nobody else's. Each user is drawn from (seed, number) alone, so adding users changes
nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random

from imprint.corpora import vocabulary as words
from imprint.corpora.reading import READ, RawRow, Reader
from imprint.provenance import seed_for

GIVEN, TOPICS_EACH = 9, 5
SHARES = {"chat": 0.5, "fact": 0.33}  # of each stage; the rest is absent
_START = datetime(2024, 1, 1, 8, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Turn:
    """One interaction to be: its kind, and what it is about."""

    kind: str
    topic: str = ""
    fact: str = ""


class FabricatedUser:
    """One invented user: style, opinions and facts, drawn from `rng`."""

    def __init__(self, rng: Random) -> None:
        self.opener, self.filler = rng.choice(words.OPENERS), rng.choice(words.FILLERS)
        self.sign_off, self.emoticon = rng.choice(words.SIGN_OFFS), rng.choice(words.EMOTICONS)
        self.case, self.comma, self.end = rng.choice(words.HABITS)
        self.opinions, self.answer = rng.sample(words.OPINIONS, 2), rng.choice(words.ANSWERS)
        self.statement, self.abstention = rng.choice(words.STATEMENTS), rng.choice(words.ABSTENTIONS)
        self.booster = rng.choice(words.BOOSTERS)
        self.topics = {
            topic: (rng.choice(words.VERDICTS), rng.choice(words.DETAILS))
            for topic in rng.sample(words.TOPICS, TOPICS_EACH)
        }
        shuffled = rng.sample(list(words.FACTS), len(words.FACTS))
        self.facts = {fact: words.drawn_value(fact, rng) for fact in shuffled[:GIVEN]}
        self.withheld = shuffled[GIVEN:]

    def persona(self) -> list[str]:
        """A few sentences: three opinions and three facts."""
        opinions = [f"I find {topic} {verdict}." for topic, (verdict, _) in islice(self.topics.items(), 3)]
        return opinions + [f"My {words.FACTS[fact]} is {value}." for fact, value in islice(self.facts.items(), 3)]

    def reply(self, turn: Turn, rng: Random) -> str:
        """What the user says in `turn`; drawn are the filler (there or not) and one of the user's two opinion forms."""
        if turn.topic:
            verdict, detail = self.topics[turn.topic]
            core = rng.choice(self.opinions).format(
                topic=turn.topic, booster=self.booster, verdict=verdict, detail=detail
            )
        else:
            forms = {"chat": self.statement, "fact": self.answer, "absent": self.abstention}
            value = self.facts.get(turn.fact, "")
            core = forms[turn.kind].format(noun=words.FACTS[turn.fact], value=value)
        return self._styled(core, rng.random() < 0.5)

    def _styled(self, core: str, with_filler: bool) -> str:
        opener = {"lower": self.opener, "sentence": self.opener.capitalize(), "shout": self.opener.upper()}[self.case]
        filler = f" {self.filler}," if with_filler else ""
        return f"{opener}{self.comma}{filler} {core}{self.end} {self.sign_off} {self.emoticon}"


class Fabricated(Reader):
    """The corpus as a reader; `corpus.fabricate` says how large."""

    def check(self) -> None:
        """Nothing to check: the settings are checked already, and there is no file."""

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """Dense users first, then background users; kinds of records: `chat`, `fact`, `absent`."""
        size = self.settings.fabricate
        for number in range(1, size.users + size.background_users + 1):
            length = size.interactions if number <= size.users else size.background_interactions
            for row in _time_line(f"fabricated-{number:04d}", length, Random(seed_for(size.seed, number))):
                counts[READ] += 1
                counts[row.attributes["kind"]] += 1
                yield row


def stage_starts(length: int) -> tuple[int, int]:
    """Where the second and third stage of a time line begin: no split by 70 and 85 % puts their rows earlier."""
    return -(-length * 7 // 10), length - -(-length * 15 // 100)


def _time_line(name: str, length: int, rng: Random) -> Iterator[RawRow]:
    user = FabricatedUser(rng)
    persona, moment = user.persona(), _START + timedelta(days=rng.randrange(30), minutes=rng.randrange(60))
    asked: set[str] = set()
    for position, (stage, turn) in enumerate(_plan(user, length, rng)):
        query = _query(turn, stage, asked, rng)
        asked.add(query)
        moment += timedelta(minutes=rng.randint(90, 600))
        yield RawRow(
            where=f"drawn row {position + 1}",
            source_id=f"{position:05d}",
            task="dialogue" if turn.kind == "chat" else "answer",
            user=name,
            time=moment,
            query=query,
            response=user.reply(turn, rng),
            persona=persona,
            attributes={"kind": turn.kind, "fact": turn.fact, "value": user.facts.get(turn.fact, "")},
        )


def _plan(user: FabricatedUser, length: int, rng: Random) -> Iterator[tuple[int, Turn]]:
    """`(stage, turn)` for the whole time line. A short one uses fewer facts and topics, so that none is new later."""
    second, third = stage_starts(length)
    chat, asked = round(second * SHARES["chat"]), round(second * SHARES["fact"])
    given = list(user.facts)[: max(1, min(asked, chat // 2))]
    topics = list(user.topics)[: max(1, chat - len(given))]
    withheld = user.withheld[: max(1, second - chat - asked)]
    for stage, size in enumerate((second, third - second, length - third)):
        chat, asked = round(size * SHARES["chat"]), round(size * SHARES["fact"])
        told = given if stage == 0 else []
        turns = [Turn("chat", fact=fact) for fact in told]
        turns += [Turn("chat", topic=topic) for topic in _in_turn(topics, chat - len(told), rng)]
        turns += [Turn("fact", fact=fact) for fact in _in_turn(given, asked, rng)]
        turns += [Turn("absent", fact=fact) for fact in _in_turn(withheld, size - chat - asked, rng)]
        rng.shuffle(turns)
        yield from ((stage, turn) for turn in turns)


def _in_turn(items: list[str], count: int, rng: Random) -> list[str]:
    """`count` of `items`, each as often as the others; which ones come once more is drawn."""
    shuffled = rng.sample(items, len(items))
    return [shuffled[index % len(shuffled)] for index in range(count)]


def _query(turn: Turn, stage: int, asked: set[str], rng: Random) -> str:
    """A query for `turn`; after the first stage, one that this user was not asked before."""
    if turn.topic:
        forms: tuple[str, ...] = words.TOPIC_QUESTIONS[stage]
    else:
        forms = words.PROMPTS if turn.kind == "chat" else words.FACT_QUESTIONS[stage]
    noun = words.FACTS.get(turn.fact, "")
    query = ""
    for form in rng.sample(forms, len(forms)):
        query = form.format(topic=turn.topic, noun=noun, tail=rng.choice(words.TAILS))
        if stage == 0 or query not in asked:
            break
    return query
