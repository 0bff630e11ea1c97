"""From rows to records to one value a user."""

import math
from dataclasses import replace

import pytest
from methods import asked_as
from toys import invented_rows

from imprint.base.examples import Interaction
from imprint.base.loss import mean_loss
from imprint.evaluate.measure import answer_rows, score_rows, specificity_matrix, spread, spread_by_task
from imprint.evaluate.per_user import (
    answers,
    costs,
    losses,
    merge,
    own_memory,
    persona_texts,
    persona_words,
    side_by_side,
)
from imprint.evaluate.unrelated import unrelated_rows
from imprint.memory.config import MemoryConfig
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
from imprint.personalizers.choosers import Latest
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.unpersonalised import Unpersonalised

CONFIG = MemoryConfig(ranks=(4,), targets=("up", "down"), alpha_ratio=4.0, n_memories=1, learning_rate=1e-2, epochs=4)
USERS = tuple(f"u{number}" for number in range(20))


def test_spread_takes_the_same_rows_evenly():
    assert spread(list(range(100)), 4) == [12, 37, 62, 87]
    assert spread(list(range(3)), 4) == [0, 1, 2]
    assert spread(list(range(3)), None) == [0, 1, 2]
    assert spread(list(range(3)), 0) == []


def tasks_of(rows):
    return [row.task for row in rows]


def test_rows_are_spread_within_each_task_and_the_one_of_a_rare_task_is_there():
    """A favourite is a user's last row, and the row that an even spread over all of them never takes."""
    items, last = invented_rows("u1", 24), invented_rows("u1", 1, first=24)
    rows = [replace(row, task="next_item") for row in items] + [replace(row, task="favourite") for row in last]

    for count in (2, 3, 4, 12):
        found = spread_by_task(rows, count)
        assert tasks_of(found) == ["next_item"] * (count - 1) + ["favourite"]
        assert found[:-1] == spread(rows[:-1], count - 1)
    assert spread_by_task(rows, None) == spread_by_task(rows, 25) == rows
    assert spread_by_task(rows, 0) == []


def test_tasks_have_rows_in_proportion_at_least_one_and_the_rows_stay_in_time_order():
    rows = [
        replace(row, task=task)
        for row, task in zip(invented_rows("u1", 60), ["dialogue", "answer", "dialogue"] * 20, strict=True)
    ]

    found = spread_by_task(rows, 6)

    assert sorted(tasks_of(found)) == ["answer"] * 2 + ["dialogue"] * 4
    assert [row.order for row in found] == sorted(row.order for row in found)
    assert len(spread_by_task([*rows, replace(rows[0], task="tag")], 2)) == 3


def test_every_row_is_scored_and_answered_once_under_its_own_user(llama):
    """More users than one call takes, so that the seams between calls are seen."""
    rows = {user: invented_rows(user, 3) for user in USERS}
    method = Unpersonalised("base", llama, 2)
    seen = []

    scored = score_rows(method, rows, lambda: seen.append(1))
    answered = answer_rows(method, rows, 4)

    expected = [(row.user_id, row.record_id) for mine in rows.values() for row in mine]
    assert [(row["user_id"], row["record_id"]) for row in scored] == expected
    assert [(row["user_id"], row["record_id"]) for row in answered] == expected
    assert [row["reference"] for row in answered] == [row.response for mine in rows.values() for row in mine]
    assert len(seen) == len(USERS)


def test_a_specificity_matrix_has_words_in_rows_and_memories_in_columns(llama, tmp_path):
    users = USERS[:3]
    memories = [train_memory(llama, u, llama.encoder.examples(invented_rows(u, 20)), CONFIG, 1).memory for u in users]
    write_store(tmp_path / "store", {0: memories}, {})
    method = Remembered("memory", llama, MemoryStore(tmp_path / "store"), 2)
    rows = {user: invented_rows(user, 4, seed=1) for user in users}

    matrix = specificity_matrix(method, rows)

    assert matrix["users"] == list(users)
    under_second = losses(
        [{"method": "m", "user_id": "u0", **r._asdict()} for r in method.score(asked_as("u1", rows["u0"]))]
    )
    assert matrix["loss"][0][1] == pytest.approx(under_second["m"]["loss"]["u0"])
    own = mean_loss(method.score(rows["u2"]))
    assert matrix["loss"][2][2] == pytest.approx(own)
    found = own_memory("memory", {**matrix, "without": None})["memory"]
    assert found.keys() == {"own_best_share", "specificity_gap"}
    assert found["own_best_share"].keys() == set(users)


def test_drift_is_what_a_memory_changes_on_text_that_is_nobodys(llama, tmp_path):
    """The same text for every run, whoever is measured in it."""
    config = CONFIG.model_copy(update={"learning_rate": 5e-2})
    past = {user: llama.encoder.examples(invented_rows(user, 20)) for user in USERS[:2]}
    memories = [train_memory(llama, user, rows, config, 1).memory for user, rows in past.items()]
    write_store(tmp_path / "store", {0: memories}, {})
    method = Remembered("memory", llama, MemoryStore(tmp_path / "store"), 2)
    text = unrelated_rows()
    without = mean_loss(method.score_without(text))

    matrix = specificity_matrix(method, {user: invented_rows(user, 2, seed=1) for user in USERS[:2]})
    drifts = own_memory("memory", {**matrix, "without": without})["memory"]["drift"]

    for user in USERS[:2]:
        under = mean_loss(method.score(asked_as(user, text)))
        assert drifts[user] == pytest.approx(under - without)
        assert abs(drifts[user]) > 1e-3
    assert len({row.record_id for row in text}) == len(text) >= 12
    assert all(row.query.endswith("?") and row.response.endswith(".") for row in text)


def test_a_method_that_reads_is_asked_as_somebody_else_by_their_history(llama):
    """As a whole: all that is known of the other stands before the question, however long the own history is."""
    histories = {user: invented_rows(user, 3 + 4 * place) for place, user in enumerate(USERS[:2])}
    rows = {user: invented_rows(user, 2, seed=1, first=len(past)) for user, past in histories.items()}
    method = Prompted("recent_history", Unpersonalised("pooled", llama, 2), Latest(), 24)
    method.fit(histories)

    matrix = specificity_matrix(method, rows)

    asked = [replace(row, user_id="u1", order=99) for row in rows["u0"]]
    assert matrix["loss"][0][1] == pytest.approx(mean_loss(method.score(asked)))
    assert matrix["loss"][0][0] == pytest.approx(mean_loss(method.score(rows["u0"])))
    assert matrix["loss"][0][0] != pytest.approx(matrix["loss"][0][1], rel=1e-4)


def test_a_users_loss_is_nats_over_tokens_and_not_a_mean_of_rows():
    rows = [
        {"method": "base", "user_id": "u1", "nats": 2.0, "tokens": 1},
        {"method": "base", "user_id": "u1", "nats": 2.0, "tokens": 3},
    ]
    assert losses(rows) == {"base": {"loss": {"u1": 1.0}}}


def test_persona_words_come_from_training_responses_and_persona_only():
    rows = [Interaction("u1", "r", "unasked question", "I love hiking", ("has a Dog",))]
    assert persona_words(rows) == {"love", "hiking", "dog"}


def test_answers_are_scored_by_user_and_method():
    record = {"user_id": "u1", "record_id": "r1", "task": "dialogue", "query": "q", "reference": "green tea please"}
    rows = [
        {**record, "method": "memory", "response": "green tea please"},
        {**record, "method": "base", "response": "no"},
    ]

    label = {**record, "record_id": "r2", "task": "rating", "method": "base", "response": "5", "reference": "5"}

    found = answers(
        [*rows, label], {"u1": [Interaction("u1", "r0", "", "green tea"), Interaction("u1", "r", "", "no")]}
    )

    assert found["memory"]["rouge1"]["u1"] == 1.0
    assert found["base"]["rouge1"]["u1"] == 0.0
    assert found["memory"]["persona_precision"]["u1"] == pytest.approx(2 / 3)
    assert found["memory"]["persona_recall"]["u1"] == pytest.approx(1)
    assert found["memory"]["persona_f1"]["u1"] == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert found["memory"]["p_cover"]["u1"] == pytest.approx(2 * math.log(2))
    assert found["memory"]["p_cover_mean"]["u1"] == pytest.approx(math.log(2))
    assert side_by_side(rows) == [
        {
            "user_id": "u1",
            "query": "q",
            "reference": "green tea please",
            "responses": {"memory": "green tea please", "base": "no"},
            "rouge1": {"memory": 1.0, "base": 0.0},
        }
    ]


def test_a_baseline_without_a_loss_has_none():
    rows = [{"method": "majority", "user_id": "u1", "nats": None, "tokens": None}]
    assert losses(rows) == {}


def test_a_persona_is_said_in_every_row_and_counts_once():
    rows = [Interaction("u1", f"r{place}", "", text, ("has a dog",)) for place, text in enumerate(("tea", "tea", "no"))]
    assert persona_texts(rows) == ["tea", "tea", "no", "has a dog"]


def test_one_user_has_no_specificity():
    assert own_memory("memory", {"users": ["u1"], "loss": [[1.0]], "unrelated": [1.0], "without": 1.0}) == {}


def test_parts_are_merged_by_method():
    merged = merge([{"memory": {"loss": {"u1": 1.0}}}, costs("memory", ["u1"], {"u1": 2.0, "u2": 9.0}, {"u1": 8})])

    assert merged["memory"].keys() == {"loss", "seconds_per_user", "bytes_per_user"}
    assert merged["memory"]["seconds_per_user"] == {"u1": 2.0}
