"""What choices are worth, by LaMP's rules and by values worked out by hand."""

import math

import numpy as np
import pytest

from imprint.base.answers import Answers
from imprint.evaluate.decisions import Decided, chosen, distance, generated, macro_f1, merge_counts, values_of
from imprint.evaluate.statistics import bootstrap_macro_f1, summarise

STARS = ("1", "2", "3", "4", "5")
ANSWERS = {"rating": Answers(STARS), "category": Answers(("art", "news", "war")), "next_item": Answers(("x", "y"))}


def decided(user, gold, answer, task="rating", rank=None, method="base"):
    return Decided(method, user, task, gold, answer, rank)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("4", "5", 1),
        ("n/a", "4", 3),  # the published vector: gold 4 and no number give 1
        ("n/a", "3", 2),
        ("n/a", "2", 3),
        ("", "1", 4),
        ("4.0", "4", 0),
        ("nan", "5", 4),
        ("inf", "5", 4),
        ("9", "5", 4),
    ],
)
def test_what_is_no_number_is_the_end_of_the_scale_that_is_farther(answer, gold, expected):
    assert distance(answer, gold, STARS) == expected


def test_ratings_have_accuracy_distance_and_squared_distance():
    rows = [decided("u1", "5", "3"), decided("u1", "4", "4"), decided("u2", "1", "2")]
    values, _ = values_of(rows, ANSWERS)

    assert values["base"]["accuracy"] == {"u1": 0.5, "u2": 0.0}
    assert values["base"]["mae"] == {"u1": 1.0, "u2": 1.0}
    assert values["base"]["rmse"] == {"u1": 2.0, "u2": 1.0}
    assert "recall@10" not in values["base"]


def test_rmse_is_the_root_of_the_mean_square_and_so_are_its_bounds():
    rows = [decided(f"u{place}", "5", str(answer)) for place, answer in enumerate([5, 4, 3, 1, 1, 2])]
    found = summarise(values_of(rows, ANSWERS)[0], [], {}, seed=1)["methods"]["base"]

    assert found["rmse"]["mean"] == pytest.approx(math.sqrt((0 + 1 + 4 + 16 + 16 + 9) / 6))
    assert found["mae"]["mean"] == pytest.approx((0 + 1 + 2 + 4 + 4 + 3) / 6)
    assert found["rmse"]["low"] < found["rmse"]["mean"] < found["rmse"]["high"] <= 4


def test_ranks_give_recall_gain_and_reciprocal():
    rows = [decided("u1", "x", None, "next_item", rank) for rank in (1, 3, 11, 10.5)]
    values = values_of(rows, ANSWERS)[0]["base"]

    assert values["recall@1"]["u1"] == 0.25
    assert values["recall@5"]["u1"] == 0.5
    assert values["recall@10"]["u1"] == 0.5
    assert values["ndcg@10"]["u1"] == pytest.approx((1 + 1 / 2) / 4)
    assert values["mrr"]["u1"] == pytest.approx((1 + 1 / 3 + 1 / 11 + 1 / 10.5) / 4)
    assert "accuracy" not in values


def test_macro_f1_is_sklearns_over_the_fixed_labels_with_unknown_answers():
    """LaMP's: an answer that is no label is missed by the right one and given by nobody."""
    from sklearn.metrics import f1_score

    gold = ["art", "art", "news", "war", "art"]
    given = ["art", "news", "news", "peace", "art"]
    labels = list(ANSWERS["category"].texts)
    rows = [decided(f"u{place % 2}", g, a, "category") for place, (g, a) in enumerate(zip(gold, given, strict=True))]
    _, counts = values_of(rows, {"category": ANSWERS["category"]})

    found = bootstrap_macro_f1(counts["base"]["macro_f1"], 1, 100)

    numbered = [[labels.index(one) if one in labels else -1 for one in some] for some in (gold, given)]
    expected = f1_score(*numbered, labels=range(3), average="macro", zero_division=0)
    assert found.mean == pytest.approx(expected)
    assert found.n == 2
    assert found.low <= found.mean <= found.high


def test_labels_that_nobody_has_count_as_nothing_and_tasks_count_alike():
    assert macro_f1(np.array([[2, 0, 0], [0, 0, 0]]), np.array([0.5, 0.5])) == 0.5
    rows = [decided("u1", "art", "art", "category"), decided("u1", "5", "5"), decided("u1", "1", "1")]
    _, counts = values_of(rows, ANSWERS)
    assert counts["base"]["macro_f1"].weights().tolist() == pytest.approx([1 / 10] * 5 + [1 / 6] * 3)
    assert bootstrap_macro_f1(counts["base"]["macro_f1"], 1, 10).mean == pytest.approx((2 / 5 + 1 / 3) / 2)


def test_a_task_that_nobody_was_asked_is_no_part_of_the_mean():
    """Its labels are in the corpus, with users who are not reported."""
    _, counts = values_of([decided("u1", "5", "5"), decided("u2", "1", "1")], ANSWERS)
    assert counts["base"]["macro_f1"].weights().tolist() == pytest.approx([1 / 5] * 5 + [0] * 3)
    assert bootstrap_macro_f1(counts["base"]["macro_f1"], 1, 10).mean == pytest.approx(2 / 5)


def test_counts_of_shards_are_counts_of_all():
    rows = [decided(f"u{place}", "5", str(1 + place % 5), method=name) for place in range(6) for name in ("a", "b")]
    whole = values_of(rows, ANSWERS)[1]
    parts = merge_counts(
        values_of([row for row in rows if (row.user_id < "u3") == early], ANSWERS)[1] for early in (True, False)
    )
    for method in ("a", "b"):
        one, all_at_once = parts[method]["macro_f1"], whole[method]["macro_f1"]
        assert bootstrap_macro_f1(one, 1, 50) == bootstrap_macro_f1(all_at_once, 1, 50)
        assert one.users.keys() == {f"u{place}" for place in range(6)}


def test_an_interval_of_macro_f1_is_over_users_and_the_same_twice():
    rows = [decided(f"u{place}", "5", "5" if place % 3 else "1") for place in range(30)]
    counts = values_of(rows, {"rating": ANSWERS["rating"]})[1]["base"]["macro_f1"]
    one, same = (bootstrap_macro_f1(counts, 1, 200) for _ in range(2))

    assert one == same
    assert one.low < one.mean < one.high


def test_generated_answers_are_taken_at_their_word_and_counted_where_they_are_none():
    record = {"method": "base", "user_id": "u1", "record_id": "r"}
    rows = [
        {**record, "task": "rating", "reference": "4", "response": " 4 "},
        {**record, "task": "rating", "reference": "4", "response": "four stars"},
        {**record, "task": "next_item", "reference": "x", "response": "z"},
        {**record, "task": "dialogue", "reference": "hello", "response": "hello"},
    ]
    values, counts = values_of(generated(rows), ANSWERS, free=True)

    assert values["base"]["free_accuracy"] == {"u1": pytest.approx(1 / 3)}
    assert values["base"]["invalid_rate"] == {"u1": pytest.approx(2 / 3)}
    assert values["base"]["free_mae"] == {"u1": 1.5}
    assert set(counts["base"]) == {"free_macro_f1"}


def test_rows_that_were_not_decided_do_not_count():
    about = {"method": "base", "user_id": "u1", "task": "rating", "chosen": "1", "rank": None}
    assert chosen([{**about, "gold": None}]) == []
    assert chosen([{**about, "gold": "1"}]) == [decided("u1", "1", "1")]
