"""What can be chosen, what is chosen, and at which place the right one stands."""

import math
from dataclasses import replace

import pytest
import torch
from partitioned import history, rows_of, table_of

from imprint.evaluate import choices
from imprint.evaluate.baselines import baselines
from imprint.evaluate.choices import choosing_of, decided_rows, rank_among, with_choices
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.measure import score_rows
from imprint.evaluate.settings import EvaluateSettings
from imprint.evaluate.tables import scores_table
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.tasks import MOVIE_TAGS

USERS = ("ann", "bob")
ITEMS = ("apple river", "apple stone", "cloud", "green quiet table", "music")


INDEX = [{"user_id": user, "role": "reported"} for user in USERS]


ROWS = [
    *history("ann", "next_item", ITEMS[:2], "train"),
    *history("ann", "next_item", [ITEMS[2], ITEMS[0], ITEMS[4]], first=2),
    *history("bob", "next_item", [ITEMS[3], ITEMS[3], ITEMS[4]], "train"),
    *history("bob", "next_item", [f" {ITEMS[3]} "], first=3),
]
"""Two users of items; ann has had the first two before she is asked."""


def everybody_of(rows, folder):
    """What a table of these rows says."""
    return Everybody(table_of(rows, folder))


def items(folder, **settings):
    """What everybody says in `ROWS`, its training rows and test rows by user, and what can be chosen."""
    everybody = everybody_of(ROWS, folder)
    return (
        everybody,
        rows_of(ROWS, "train"),
        rows_of(ROWS, "test"),
        choosing_of(everybody, INDEX, EvaluateSettings(**settings)),
    )


def test_a_rank_is_counted_from_one_and_equal_ones_share_their_places():
    values = torch.tensor([0.5, 0.9, 0.5, 0.1, 0.5])
    assert [rank_among(values, place) for place in (1, 0, 3)] == [1, 3, 5]
    assert rank_among(values, 0, [1]) == 2
    assert rank_among(values, 0, [1, 2, 4]) == 1
    assert rank_among(values, 1, [0]) == 1


def test_places_are_counted_as_far_as_is_said_and_all_behind_share_one(monkeypatch):
    values = torch.tensor([0.9, 0.7, 0.5, 0.3, -math.inf, -math.inf])
    monkeypatch.setattr(choices, "RANKED_TO", 2)
    assert [rank_among(values, place) for place in range(6)] == [1, 2, 4.5, 4.5, 4.5, 4.5]
    assert rank_among(values, 2, [0]) == 2
    assert rank_among(values, 3, [0]) == 4, "of five candidates places 3 to 5 are left"


def test_the_answers_of_a_task_are_its_labels_or_the_corpus_own_whatever_the_split(tmp_path):
    rows = [
        *history("ann", "tag", ["comedy", "classic"]),
        *history("ann", "category", ["war", "drama "], "train"),
        *history("bob", "category", ["drama", "music"]),
        *history("bob", "dialogue", ["hello", "there"]),
    ]
    choosing = choosing_of(everybody_of(rows, tmp_path), INDEX, EvaluateSettings(chosen_rows=3))

    assert {task: answers.texts for task, answers in choosing.answers.items()} == {
        "tag": MOVIE_TAGS,
        "category": ("drama", "music", "war"),
    }
    asked = [row for row, _ in rows if row.user_id == "bob"]
    assert [row.task for row in choosing.chosen_of(asked)] == ["category", "category"]
    assert choosing_of(everybody_of(rows[-2:], tmp_path), INDEX, EvaluateSettings()).answers == {}


def test_the_favourite_after_many_items_is_chosen_too(tmp_path):
    rows = [*history("ann", "next_item", ITEMS * 5), *history("ann", "favourite", ["music"], first=25)]
    everybody = everybody_of(rows, tmp_path)

    chosen = choosing_of(everybody, INDEX, EvaluateSettings(chosen_rows=4)).chosen_of([row for row, _ in rows])

    assert [row.task for row in chosen] == ["next_item"] * 3 + ["favourite"]


def test_items_seen_before_the_question_are_candidates_unless_removed(tmp_path):
    *_, tested, kept = items(tmp_path)
    *_, removed = items(tmp_path, seen_items="removed")
    first, second, _ = tested["ann"]

    assert kept.barred(first) == kept.barred(second) == []
    assert sorted(removed.barred(first)) == [0, 1]
    assert sorted(removed.barred(second)) == [
        1,
        2,
    ]  # ITEMS[0] is the right one, ITEMS[2] came between, and ITEMS[4] later
    assert removed.barred(tested["bob"][0]) == [4]


@pytest.mark.parametrize("seen_items", ["kept", "removed"])
def test_the_rank_of_the_right_item_is_that_among_all_items_scored_one_by_one(llama, seen_items, tmp_path):
    _, _, tested, choosing = items(tmp_path, seen_items=seen_items)
    method = Unpersonalised("base", llama, 2)

    found = with_choices(method, tested, score_rows(method, tested), choosing)

    for row, record in zip([row for rows in tested.values() for row in rows], found, strict=True):
        scored = method.score([replace(row, response=item) for item in sorted(ITEMS)])
        likelihoods = torch.tensor([-one.nats for one in scored])
        assert record["gold"] == row.response.strip()
        assert record["rank"] == rank_among(
            likelihoods, sorted(ITEMS).index(row.response.strip()), choosing.barred(row)
        )
        assert record["chosen"] is None


def test_the_chosen_label_is_the_likeliest_and_other_rows_have_none(llama, tmp_path):
    rows = {
        user: [row for row, _ in [*history(user, "rating", ["1", "5", "3"]), *history(user, "dialogue", ["hello"])]]
        for user in USERS
    }
    everybody = everybody_of([(row, "test") for mine in rows.values() for row in mine], tmp_path)
    choosing = choosing_of(everybody, INDEX, EvaluateSettings(chosen_rows=2))
    method = Unpersonalised("base", llama, 2)

    found = with_choices(method, rows, score_rows(method, rows), choosing)

    assert [record["gold"] is not None for record in found] == [True, False, True, False] * 2
    for row, record in zip([row for mine in rows.values() for row in mine], found, strict=True):
        if record["gold"] is not None:
            losses = [one.nats for one in method.score([replace(row, response=label) for label in "12345"])]
            assert record["chosen"] == "12345"[losses.index(min(losses))]
    written = scores_table(found).to_pylist()
    assert [row["chosen"] for row in written] == [record["chosen"] for record in found]


@pytest.mark.parametrize("to", [1, 2, 3, 5])
@pytest.mark.parametrize("seen_items", ["kept", "removed"])
def test_a_place_that_is_counted_is_exact_though_the_model_is_not_asked_for_the_rest(
    llama, seen_items, to, tmp_path, monkeypatch
):
    """Items that are no candidates take no place among those that are enough."""
    _, _, tested, choosing = items(tmp_path, seen_items=seen_items)
    method = Unpersonalised("base", llama, 2)
    scores = score_rows(method, tested)
    whole = [row["rank"] for row in with_choices(method, tested, scores, choosing)]
    monkeypatch.setattr("imprint.base.answers.ROWS", 1)
    monkeypatch.setattr(choices, "RANKED_TO", to)

    found = [row["rank"] for row in with_choices(method, tested, scores, choosing)]

    rows = [row for mine in tested.values() for row in mine]
    for row, rank, exact in zip(rows, found, whole, strict=True):
        candidates = len(ITEMS) - len(choosing.barred(row))
        assert rank == (exact if exact <= to else (to + 1 + candidates) / 2)


def test_a_person_who_waits_is_told_of_every_choice(llama, tmp_path):
    *_, tested, choosing = items(tmp_path, chosen_rows=2)
    method, ticks = Unpersonalised("base", llama, 2), []

    found = with_choices(method, tested, score_rows(method, tested), choosing, lambda: ticks.append(1))

    assert len(ticks) == sum(row["gold"] is not None for row in found) == 3


def test_users_are_counted_when_they_are_scored_and_their_choices_made(llama, tmp_path, monkeypatch):
    *_, tested, choosing = items(tmp_path, chosen_rows=2)
    method, known = Unpersonalised("base", llama, 2), []
    monkeypatch.setattr(choices, "USERS_AT_ONCE", 1)
    whole = with_choices(method, tested, score_rows(method, tested), choosing)
    weigh = method.likelihoods
    monkeypatch.setattr(method, "likelihoods", lambda *given: known.append("choices") or weigh(*given))

    assert decided_rows(method, tested, choosing, lambda: known.append("user")) == whole
    assert known == ["choices", "user"] * 2


def test_no_row_is_decided_where_none_is_wanted(llama, tmp_path):
    *_, tested, choosing = items(tmp_path, chosen_rows=0)
    method = Unpersonalised("base", llama, 2)
    assert {row["gold"] for row in with_choices(method, tested, score_rows(method, tested), choosing)} == {None}


def scored(rows):
    """Records as a method left them, all decided."""
    return [{"record_id": row.record_id, "gold": row.response.strip()} for mine in rows.values() for row in mine]


def by_method(records):
    return {name: [row for row in records if row["method"] == name] for name in {row["method"] for row in records}}


def test_popularity_ranks_by_training_rows_of_everybody(tmp_path):
    everybody, trained, tested, choosing = items(tmp_path)

    found = by_method(baselines(everybody, trained, tested, scored(tested), choosing, 1))

    assert found.keys() == {"random", "popularity"}
    # in training: apple river 1, apple stone 1, cloud 0, green quiet table 2, music 1
    assert [row["rank"] for row in found["popularity"]] == [5, 3, 3, 1]
    assert all(1 <= row["rank"] <= len(ITEMS) for row in found["random"])
    *_, removed = items(tmp_path, seen_items="removed")
    without = by_method(baselines(everybody, trained, tested, scored(tested), removed, 1))
    assert [row["rank"] for row in without["popularity"]] == [3, 2.5, 2, 1]
    assert all(row["nats"] is None and row["chosen"] is None for row in found["random"])


def test_where_nobody_was_taught_a_label_there_is_no_majority_and_no_own_one(tmp_path):
    """The first label is nobody's majority; and a mean over some tasks would stand beside means over all."""
    asked = history("ann", "favourite", ["war"], first=9)
    known = [*history("ann", "rating", ["2", "2"], "train"), *history("ann", "rating", ["2"], first=8)]
    tested = rows_of([*known, *asked], "test")

    def found(rows, folder):
        everybody = everybody_of(rows, folder)
        choosing = choosing_of(everybody, INDEX, EvaluateSettings())
        return by_method(baselines(everybody, rows_of(known, "train"), tested, scored(tested), choosing, 1))

    untaught = found([*known, *asked], tmp_path / "untaught")
    assert {name: len(rows) for name, rows in untaught.items()} == {"random": 2}
    others = history("bob", "favourite", ["drama", "war", "drama"], "train")
    taught = found([*known, *asked, *others], tmp_path / "taught")
    assert [row["chosen"] for row in taught["majority"]] == ["2", "drama"]
    assert [row["chosen"] for row in taught["own_majority"]] == ["2", "drama"]


def test_majorities_are_of_training_rows_and_one_is_the_users_own(tmp_path):
    rows = [
        *history("ann", "rating", ["2", "2", "4"], "train"),
        *history("bob", "rating", ["5", "5", "5", "1"], "train"),
        *history("cleo", "rating", ["5"], "train"),
        *history("eve", "rating", ["3", "3", "3", "3", "3", "3"], "validation"),
    ]
    tested = {
        user: [replace(row, record_id=f"{user}-asked", order=9) for row, _ in history(user, "rating", ["3"])]
        for user in ("ann", "bob", "dan")
    }
    trained = {user: [row for row, _ in rows if row.user_id == user] for user in tested}
    everybody = everybody_of([*rows, *((row, "test") for mine in tested.values() for row in mine)], tmp_path)
    choosing = choosing_of(everybody, INDEX, EvaluateSettings())

    found = by_method(baselines(everybody, trained, tested, scored(tested), choosing, 1))

    assert [row["chosen"] for row in found["majority"]] == ["5", "5", "5"]
    assert [row["chosen"] for row in found["own_majority"]] == ["2", "5", "5"]
    assert {row["chosen"] for row in found["random"]} <= set("12345")
    again = by_method(baselines(everybody, trained, tested, scored(tested), choosing, 1))
    assert again["random"] == found["random"]
    assert baselines(everybody, trained, tested, [{"record_id": "ann-asked", "gold": None}], choosing, 1) == []
