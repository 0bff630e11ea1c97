"""Methods side by side: who is compared with whom, users by history, and what counts as cost."""

from collections import Counter

import pytest
from methods import compare_settings
from toys import invented_rows

from imprint.evaluate.choices import Choosing
from imprint.evaluate.compared import measure_method
from imprint.evaluate.comparison import (
    Training,
    by_history,
    cost_of,
    deciding_metric,
    history_groups,
    latents_of,
    pairs_of,
    trained,
)
from imprint.evaluate.settings import EvaluateSettings
from imprint.personalizers.choosers import Latest
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.provenance import fingerprint


def values(**means):
    return {method: {"u1": mean, "u2": mean + 0.1} for method, mean in means.items()}


def test_every_method_meets_every_other_once_the_best_and_memory_first():
    found = pairs_of(values(base=3.0, pooled=2.0, retrieval=1.0, memory=1.5, user_llm=2.5), False)

    best = [("retrieval", other) for other in ("memory", "base", "pooled", "user_llm")]
    memory = [("memory", other) for other in ("base", "pooled", "user_llm")]
    assert found == [*best, *memory, ("base", "pooled"), ("base", "user_llm"), ("pooled", "user_llm")]
    assert pairs_of(values(base=1.0, retrieval=2.0), True) == [("retrieval", "base")]
    against = [("base", "majority"), ("retrieval", "majority")]
    assert pairs_of(values(base=1.0, retrieval=2.0), False, ["majority"]) == [("base", "retrieval"), *against]


@pytest.mark.parametrize(
    ("tasks", "deciding"),
    [
        (("dialogue", "answer"), "loss"),
        (("rating", "stars"), "mae"),
        (("tag",), "accuracy"),
        (("next_item",), "recall@10"),
        (("next_item", "favourite"), "loss"),
    ],
)
def test_what_decides_is_the_metric_of_the_tasks_where_they_are_of_one_kind(tasks, deciding):
    measured = {"loss": {}, "mae": {}, "accuracy": {}, "recall@10": {}}
    assert deciding_metric(tasks, {"base": measured, "memory": measured}) == deciding
    assert deciding_metric(tasks, {"base": measured, "memory": {"loss": {}}}) == "loss"


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([5, 1, 9, 3, 7, 11], [[1, 3], [5, 7], [9, 11]]),
        ([4, 4, 4, 4], [[4, 4, 4, 4]]),
        ([1, 4, 4, 4, 4, 9], [[1], [4, 4, 4, 4], [9]]),
        ([2], [[2]]),
    ],
)
def test_users_fall_into_thirds_by_history_and_equal_ones_stay_together(lengths, groups):
    of = {f"u{place}": length for place, length in enumerate(lengths)}
    found = [sorted(of[user] for user in group) for group in history_groups(of)]
    if lengths == [1, 4, 4, 4, 4, 9]:  # equal ones belong where the first of them does
        groups = [[1, 4, 4, 4, 4], [9]]
    assert found == groups


def test_losses_by_history_are_those_of_the_groups_users():
    lengths = {"u1": 1, "u2": 5, "u3": 9}
    rows = by_history({"base": {"u1": 3.0, "u2": 2.0, "u3": 1.0}}, "loss", lengths, 7, 100)

    assert [(row["from"], row["to"], row["users"], row["methods"]["base"]["mean"]) for row in rows] == [
        (1, 1, 1, 3.0),
        (5, 5, 1, 2.0),
        (9, 9, 1, 1.0),
    ]


def test_in_each_group_the_best_is_held_against_each_other_method():
    """By the group's own users: with long histories another is the best, and there it is plain."""
    lengths = {f"u{number:02d}": 5 + 10 * (number >= 12) + 10 * (number >= 24) for number in range(36)}
    close = {user: 2.0 + (-1) ** int(user[1:]) * 0.01 for user in lengths}
    found = {
        "memory": dict.fromkeys(lengths, 2.0),
        "pooled": close,
        "retrieval": {u: 2.5 - 0.05 * n for u, n in lengths.items()},
    }

    short, _, long = by_history(found, "loss", lengths, 7, 200)

    assert {(row["a"], row["b"]) for row in short["comparisons"]} == {("memory", "pooled"), ("memory", "retrieval")}
    told = {row["b"]: row for row in short["comparisons"]}
    assert told["retrieval"]["high"] < 0
    assert told["retrieval"]["p_holm"] < 0.05
    assert told["pooled"]["p_holm"] > 0.05
    assert {row["a"] for row in long["comparisons"]} == {"retrieval"}
    assert {row["metric"] for row in long["comparisons"]} == {"loss"}


def trial(study, seconds):
    return {"study": study, "seconds": seconds}


def test_what_was_trained_for_a_method_and_what_was_searched():
    seconds, pilot = {"u1": 2.0, "u2": 3.0}, {"u9": 50.0}
    stores = {
        f"shard-{user}": {"seconds": {user: took, **pilot}, "fingerprint": f"s-{user}", "taken": {user: "s", "u9": "s"}}
        for user, took in seconds.items()
    }
    record = {"training_tokens": 40, "seconds": 6.0, "fingerprint": "p"}
    memories = {name: {"stores": stores, "tokens": 30, "cut": 2} for name in ("memory", "fixed_memory")}
    trials = [trial("tpe", 1.0), trial("random", 10.0), trial("fixed", 100.0)]

    made_of = fingerprint(["s-u1", "s-u2"])
    found = trained(memories, {"persona_plug": record}, trials, [trial("user/u1", 5.5)], seconds)

    assert found["memory"] == found["memory+retrieval"] == Training(30, 5.0, 1.5, made_of, seconds, 2)
    assert found["fixed_memory"].search_seconds == 0
    assert found["persona_plug"] == Training(40, 6.0, 0.0, "p", None)


def test_costs_are_of_one_row_and_one_response():
    seconds = {"fit": 1.0, "score": 4.0, "choose": 5.0, "respond": 6.0}
    counts = {"scored": 8, "chosen": 2, "answered": 3, "prompt_tokens": 96}
    found = cost_of({"seconds": seconds, "bytes": {}, **counts}, Training(5, 2.0, 0.5, "f", None), 8.0)

    assert found == {
        "training_tokens": 5,
        "training_seconds": 2.0,
        "search_seconds": 0.5,
        "cut_users": 0,
        "fit_seconds": 1.0,
        "seconds_per_scored_row": 0.5,
        "seconds_per_choice": 2.5,
        "prompt_tokens": 12.0,
        "latents": 8.0,
        "seconds_per_response": 2.0,
    }


def test_where_nothing_was_chosen_a_choice_cost_nothing():
    seconds = {"fit": 1.0, "score": 4.0, "choose": 5.0, "respond": 6.0}
    counts = {"scored": 8, "chosen": 0, "answered": 3, "prompt_tokens": 96}
    found = cost_of({"seconds": seconds, "bytes": {}, **counts}, Training(5, 2.0, 0.5, "f", None), 0.0)
    assert found["seconds_per_choice"] == 0


@pytest.mark.parametrize(
    ("method", "changes", "latents"),
    [
        ("user_llm", {}, 8),
        ("user_llm", {"latents": 3}, 3),
        ("user_llm", {"latents": 0, "max_events": 6}, (5 + 7 + 7) / 3),
        ("user_llm", {"contextualise": "soft_prompt"}, 0),
        ("persona_plug", {}, 0),
    ],
)
def test_latents_are_counted_where_the_model_attends_to_them(method, changes, latents):
    """A soft prompt stands in the prompt and is counted there."""
    compare = compare_settings("user_llm", **changes)
    assert latents_of(method, compare, [4, 6, 30]) == latents


def test_a_method_is_fitted_on_histories_before_it_is_asked(llama):
    """Otherwise a method that looks back would refuse its users."""
    users = ("u1", "u2")
    histories = {user: invented_rows(user, 6) for user in users}
    later = {user: invented_rows(user, 3, seed=1, first=6) for user in users}
    method = Prompted("recent_history", Unpersonalised("pooled", llama, 2), Latest(), 20)
    settings, first = EvaluateSettings(max_new_tokens=3), {user: rows[:1] for user, rows in later.items()}
    drawn = Counter()

    def bars(title, unit, total):
        drawn[title] -= total
        return lambda: drawn.update([title])

    scores, responses, found = measure_method(method, histories, later, first, settings, Choosing({}, 4), bars)

    assert [row["record_id"] for row in scores] == [row.record_id for rows in later.values() for row in rows]
    assert (found["scored"], found["chosen"], found["answered"], len(responses)) == (6, 0, 2, 2)
    assert found["prompt_tokens"] > sum(
        len(llama.encoder.prompt(row.query)[0]) for rows in later.values() for row in rows
    )
    assert found["bytes"] == {
        user: sum(len(row.query) + len(row.response) for row in rows) for user, rows in histories.items()
    }
    assert found["seconds"].keys() == {"fit", "score", "choose", "respond"}
    assert drawn == dict.fromkeys((f"recent_history: {what}" for what in ("scores", "choices", "responses")), 0)


def test_the_cost_of_a_user_does_not_depend_on_what_is_cached(llama):
    class Read(Unpersonalised):
        def fit(self, histories):
            return 1000.0  # on disk already, and that long in the making

    histories = {"u1": invented_rows("u1", 3)}
    settings = EvaluateSettings(max_new_tokens=1)
    _, _, found = measure_method(Read("read", llama, 2), histories, {}, {}, settings, Choosing({}, 4))
    assert found["seconds"]["fit"] == pytest.approx(1000, abs=10)
