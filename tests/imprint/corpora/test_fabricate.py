"""The fabricated corpus: it repeats, its questions are new at the end, and its answers are the user's own."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from itertools import pairwise

import pytest

from imprint.corpora import CorpusSettings, open_corpus
from imprint.corpora import vocabulary as words
from imprint.corpora.fabricate import stage_starts
from imprint.corpora.reading import READ


def fabricated(**size):
    corpus = open_corpus(CorpusSettings(format="fabricated", fabricate=size))
    rows = [row | {"attributes": dict(row["attributes"])} for batch in corpus.batches() for row in batch.to_pylist()]
    return corpus, rows


def by_user(rows):
    users = defaultdict(list)
    for row in rows:
        users[row["user"]].append(row)
    return users


@pytest.fixture(scope="module")
def default():
    """The corpus of the default settings."""
    corpus, rows = fabricated()
    assert sum(number for kind, number in corpus.counts.items() if kind != READ) == corpus.counts[READ] == len(rows)
    return rows


def test_the_default_corpus_never_changes_unnoticed(default):
    """Figures in the documentation come from these very rows; a change of them is a change of version."""
    texts = [[row["user"], row["query"], row["response"], row["time"].isoformat()] for row in default]
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    assert (len(default), digest) == (9120, "5f7e86ed565835c1")


def test_another_seed_gives_other_users():
    """The seed reaches every draw."""
    small = {"users": 3, "interactions": 20, "background_users": 0}
    assert fabricated(seed=1, **small)[1] == fabricated(seed=1, **small)[1]
    assert fabricated(seed=1, **small)[1] != fabricated(seed=2, **small)[1]


def test_more_users_change_nobody():
    """A user is drawn from the seed and a number alone."""
    few = fabricated(users=2, interactions=20, background_users=0)[1]
    many = fabricated(users=5, interactions=20, background_users=3)[1]
    assert many[: len(few)] == few


def test_times_increase_within_each_user(default):
    """So the split by time is the split by stage."""
    for rows in by_user(default).values():
        assert all(one["time"] < two["time"] for one, two in pairwise(rows))


def test_texts_have_the_length_of_small_talk(default):
    """Short enough for the smallest base model: 4 to 14 words asked, 5 to 18 answered."""
    assert {len(row["query"].split()) for row in default} <= set(range(4, 15))
    assert {len(row["response"].split()) for row in default} <= set(range(5, 19))


def test_a_query_of_the_last_part_was_never_asked_before(default):
    """Not to the user in the first 85 %, and not to anybody in a training part."""
    trained = {row["query"] for rows in by_user(default).values() for row in rows[: stage_starts(len(rows))[0]]}
    for rows in by_user(default).values():
        _, third = stage_starts(len(rows))
        last = {row["query"] for row in rows[third:]}
        assert not last & {row["query"] for row in rows[:third]}
        assert not last & trained


def test_the_last_thirty_percent_use_phrasings_of_their_own(default):
    """No query from 70 % on occurs in the first 70 % of any user."""
    users = by_user(default).values()
    first = {row["query"] for rows in users for row in rows[: stage_starts(len(rows))[0]]}
    later = {row["query"] for rows in users for row in rows[stage_starts(len(rows))[0] :]}
    assert not first & later


@pytest.mark.parametrize("forms", [words.FACT_QUESTIONS, words.TOPIC_QUESTIONS])
def test_each_stage_has_eight_phrasings_and_shares_none(forms):
    """A phrasing in two stages would be a question seen before."""
    assert all(len(stage) >= 8 for stage in forms)
    assert len({form for stage in forms for form in stage}) == sum(map(len, forms))


@pytest.mark.parametrize(
    "pool", [words.OPENERS, words.FILLERS, words.SIGN_OFFS, words.EMOTICONS, words.HABITS, words.BOOSTERS, words.TOPICS]
)
def test_style_pools_are_wide_and_without_repeats(pool):
    """Twelve of each, so that combinations identify users."""
    assert len(set(pool)) == len(pool) >= 12


@pytest.mark.parametrize("length", [10, 20, 24, 110])
def test_stages_start_where_no_split_by_share_can_be_earlier(length):
    """Rounding of 70 and 15 % either way keeps later phrasings out of training and earlier ones out of the test."""
    second, third = stage_starts(length)
    assert second >= 0.7 * length > second - 1
    assert length - third >= 0.15 * length > length - third - 1


def test_what_the_last_part_asks_was_told_in_the_first(default):
    """A memory can know each fact: stated in chat and asked at least once, with the same value."""
    for rows in by_user(default).values():
        second, _ = stage_starts(len(rows))
        told = {
            (row["attributes"]["kind"], row["attributes"]["fact"], row["attributes"]["value"]) for row in rows[:second]
        }
        for row in rows[second:]:
            attributes = row["attributes"]
            if attributes["kind"] == "fact":
                assert {("chat", *fact_of(row)), ("fact", *fact_of(row))} <= told
            elif attributes["kind"] == "absent":
                assert ("absent", attributes["fact"], "") in told


def fact_of(row):
    return row["attributes"]["fact"], row["attributes"]["value"]


def test_answers_hold_the_value_and_abstentions_hold_none(default):
    """`value` is what a test looks for in the response."""
    values = {row["attributes"]["value"] for row in default if row["attributes"]["value"]}
    for row in default:
        attributes = row["attributes"]
        assert attributes["value"] in row["response"]
        assert (attributes["value"] == "") == (attributes["kind"] == "absent" or attributes["fact"] == "")
        if attributes["kind"] == "absent":
            assert not any(f" {value}" in row["response"] for value in values if len(value) > 4)


def test_a_fact_is_either_given_or_never(default):
    """Nobody withholds what was told."""
    for rows in by_user(default).values():
        given = {row["attributes"]["fact"] for row in rows if row["attributes"]["value"]}
        withheld = {row["attributes"]["fact"] for row in rows if row["attributes"]["kind"] == "absent"}
        assert not given & withheld
    dense = by_user(default)["fabricated-0001"]
    assert len({row["attributes"]["fact"] for row in dense if row["attributes"]["value"]}) == 9
    assert len({row["attributes"]["fact"] for row in dense if row["attributes"]["kind"] == "absent"}) == 5


def test_responses_are_the_users_own(default):
    """Of what dense users say in the last part, nearly all was said before by the user, and nearly none by others."""
    users = {name: rows for name, rows in by_user(default).items() if len(rows) == 110}
    before = {name: {row["response"] for row in rows[:93]} for name, rows in users.items()}
    others = defaultdict(int)
    for texts in before.values():
        for text in texts:
            others[text] += 1
    last = [(name, row["response"]) for name, rows in users.items() for row in rows[93:]]
    own = sum(text in before[name] for name, text in last) / len(last)
    foreign = sum(others[text] > (text in before[name]) for name, text in last) / len(last)
    assert own > 0.7
    assert foreign < 0.01
