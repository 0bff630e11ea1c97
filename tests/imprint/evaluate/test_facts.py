"""Facts that users gave are there, and those they never gave are not made up."""

from collections import Counter
from dataclasses import replace

import pytest
from partitioned import table_of

from imprint.base.examples import Interaction
from imprint.corpora import CorpusSettings
from imprint.corpora.fabricate import Fabricated
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.facts import asks_for_absent, facts, holds


def row(number, kind, fact, value="", user="u1"):
    attributes = (("kind", kind), ("fact", fact), ("value", value))
    return Interaction(user, f"r{number}", "query", "response", attributes=attributes)


ROWS = [
    row(0, "fact", "pet", "Momo"),
    row(1, "fact", "bus", "7"),
    row(2, "absent", "pet", user="u2"),
    row(3, "absent", "boat"),
    row(4, "chat", "", ""),
    row(5, "chat", "pet", "Momo"),
]


def said(number, response, user="u1", method="memory"):
    return {"method": method, "user_id": user, "record_id": f"r{number}", "response": response}


def test_presence_is_of_facts_given_and_absence_of_values_never_given():
    found = facts(
        [
            said(0, "oh, MOMO of course"),
            said(1, "the 17, I think"),
            said(2, "it is momo!", user="u2"),
            said(3, "I never said, ask Momo"),
            said(4, "hello"),
            said(5, "hello"),
            said(0, "no idea", method="base"),
        ],
        ROWS,
        {"pet": {"Momo"}, "bus": {"7"}},
    )

    assert found == {
        "memory": {"fact_presence": {"u1": 0.5}, "fact_absence": {"u2": 0.0, "u1": 1.0}},
        "base": {"fact_presence": {"u1": 0.0}},
    }
    assert facts([said(9, "unknown record")], ROWS, {}) == {}


@pytest.mark.parametrize("kind", ["fact", "absent"])
def test_a_column_that_happens_to_be_called_kind_is_no_fact(kind):
    mine = Interaction("u1", "r0", "query", "response", attributes=(("kind", kind),))
    assert facts([said(0, "hello")], [mine], {}) == {}
    assert not asks_for_absent([mine])


def test_values_are_those_of_everybodys_training_rows_where_somebody_asks(tmp_path):
    trained = [
        (replace(row, user_id=user, record_id=f"{user}-{row.record_id}"), split)
        for user, split in (("u1", "train"), ("u2", "test"), ("stranger", "train"))
        for row in (ROWS[0], replace(ROWS[1], attributes=(("fact", "bus"), ("value", user))))
    ]
    table = table_of(trained, tmp_path)

    assert Everybody(table).facts == {"pet": {"Momo"}, "bus": {"u1", "stranger"}}
    assert asks_for_absent(ROWS)
    assert not asks_for_absent(ROWS[:2])


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("It is Blue.", "blue", True),
        ("bluebell", "blue", False),
        ("on may 12", "May 12", True),
        ("on may 120", "May 12", False),
        ("", "x", False),
        ("c++ (mostly)", "C++", True),
    ],
)
def test_a_value_is_held_as_whole_words(text, value, expected):
    assert holds(text, value) is expected


def test_the_fabricated_corpus_knows_its_facts():
    """Its own responses hold every fact that was given, and none that was not."""
    settings = CorpusSettings(format="fabricated", fabricate={"users": 3, "interactions": 40, "background_users": 0})
    raw = list(Fabricated(settings).rows(Counter()))
    rows = [
        Interaction(
            one.user, f"{one.user}-{one.source_id}", one.query, one.response, attributes=tuple(one.attributes.items())
        )
        for one in raw
    ]
    values = {}
    for one in rows:
        attributes = dict(one.attributes)
        values.setdefault(attributes["fact"], set()).update({attributes["value"]} - {""})
    found = facts([{**said(0, one.response, one.user_id), "record_id": one.record_id} for one in rows], rows, values)

    assert set(found["memory"]["fact_presence"].values()) == {1.0}
    assert set(found["memory"]["fact_absence"].values()) == {1.0}
    assert len(found["memory"]["fact_absence"]) == 3
