"""From rows to records to one value a user."""

import math
from dataclasses import replace

import pytest
from toys import invented_rows

from imprint.base.examples import Interaction
from imprint.evaluate.measure import answer_rows, score_rows, specificity_matrix, spread, spread_by_task
from imprint.evaluate.per_user import answers, costs, losses, merge, own_memory, persona_words, side_by_side
from imprint.memory.config import MemoryConfig
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
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
        [{"method": "m", "user_id": "u0", **r._asdict()} for r in method.score_as(["u1"] * 4, rows["u0"])]
    )
    bare = losses(score_rows(Unpersonalised("base", llama, 2), rows))["base"]["loss"]
    assert matrix["without"] == pytest.approx([bare[user] for user in users])
    drifts = own_memory("memory", matrix)["memory"]["drift"]
    assert drifts["u1"] == pytest.approx(sum(matrix["loss"][i][1] - matrix["without"][i] for i in (0, 2)) / 2)
    assert matrix["loss"][0][1] == pytest.approx(under_second["m"]["loss"]["u0"])
    assert own_memory("memory", matrix)["memory"]["own_best_share"].keys() == set(users)


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


def test_one_user_has_no_specificity():
    assert own_memory("memory", {"users": ["u1"], "loss": [[1.0]], "without": [1.0]}) == {}


def test_parts_are_merged_by_method():
    merged = merge([{"memory": {"loss": {"u1": 1.0}}}, costs("memory", ["u1"], {"u1": 2.0, "u2": 9.0}, {"u1": 8})])

    assert merged["memory"].keys() == {"loss", "seconds_per_user", "bytes_per_user"}
    assert merged["memory"]["seconds_per_user"] == {"u1": 2.0}
