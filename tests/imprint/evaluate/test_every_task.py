"""Every task from rows to the comparison page, with real methods, each by its own metrics, baselines where it can."""

import pytest
from methods import compare_settings
from partitioned import history, index_of, table_of

from imprint.evaluate.compared import measure_run
from imprint.evaluate.comparison import summarise_comparison
from imprint.evaluate.settings import EvaluateSettings
from imprint.evaluate.wins import judged
from imprint.personalizers.choosers import Latest
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.report.comparison import render_comparison
from imprint.tasks import TASKS

USERS = ("ann", "bob", "cleo", "dan")
OWN = {
    "category": ("art", "war", "news"),
    "favourite": ("drama", "comedy"),
    "next_item": ("Up", "Heat", "Big", "Big Fish"),
}
COMPARE = compare_settings("base", "recent_history")
SETTINGS = EvaluateSettings(max_test_rows=5, chosen_rows=1, responses_per_user=2, max_new_tokens=4, resamples=100)
ONCE = ("citation", "paraphrase", "favourite")
"""Asked once and last: no reported user has them among the training rows."""


class LongerWins:
    """A judge of length."""

    looks_at_order = True

    def prefers(self, pairs):
        return [float(len(one.first) > len(one.second)) for one in pairs]


def rows_of_every_task():
    """Three training rows and one test row of each user and task, a user's tasks after one another.

    Of a task in `ONCE` there is the test row alone; eve, who is background, teaches it.
    """
    rows = []
    for name in ONCE:
        rows += history("eve", name, (TASKS[name].labels or OWN.get(name) or ("tea",))[:1], "train")
    for number, user in enumerate(USERS):
        for place, name in enumerate(TASKS):
            answers = TASKS[name].labels or OWN.get(name) or ("green tea", "black tea", "no tea at all")
            given = [answers[(number + turn) % len(answers)] for turn in range(4)]
            if name not in ONCE:
                rows += history(user, name, given[:3], "train", first=4 * place)
            rows += history(user, name, given[3:], "test", first=4 * place + 3)
    return rows


@pytest.fixture(scope="module")
def found(tokenizer, tmp_path_factory):
    """metrics.json of a comparison over all tasks."""
    from toys import in_use, tiny_model

    base = in_use(tiny_model("llama", tokenizer), tokenizer)
    rows = rows_of_every_task()
    table = table_of(rows, tmp_path_factory.mktemp("tasks"))
    index = [{**user, "role": "reported" if user["user_id"] in USERS else "background"} for user in index_of(rows)]
    methods = [
        Unpersonalised("base", base, 2),
        Prompted("recent_history", Unpersonalised("pooled", base, 2), Latest(), 20),
    ]
    histories = {user: [row for row, split in rows if row.user_id == user and split == "train"] for user in USERS}

    def judge(responses):
        return judged(responses, histories, LongerWins(), SETTINGS.judge)

    scores, responses, costs = measure_run(methods, table, index, SETTINGS, judge)
    tables = scores.to_pylist(), responses.to_pylist()
    return summarise_comparison(table, index, *tables, costs, {}, COMPARE, SETTINGS, {}, 1)


EXPECTED = {
    "text": {"loss", "perplexity", "rouge1", "p_cover", "persona_f1"},
    "label": {"loss", "accuracy", "macro_f1", "free_accuracy", "invalid_rate"},
    "rating": {"loss", "accuracy", "macro_f1", "mae", "rmse", "free_accuracy", "free_mae", "free_rmse", "invalid_rate"},
    "item": {"loss", "recall@1", "recall@5", "recall@10", "ndcg@10", "mrr", "free_accuracy", "invalid_rate"},
}
BASELINES = {
    "text": set(),
    "label": {"random", "majority", "own_majority"},
    "rating": {"random", "majority", "own_majority"},
    "item": {"random", "popularity"},
}


def test_every_task_is_measured_by_the_metrics_of_its_kind(found):
    tasks = {one["task"]: one for one in found["by_task"]}
    assert set(tasks) == set(TASKS)
    for name, one in tasks.items():
        kind = TASKS[name].kind
        assert (one["kind"], one["rows"], one["users"]) == (kind, len(USERS), len(USERS))
        assert set(one["methods"]) == {"base", "recent_history"} | BASELINES[kind], name
        measured = one["methods"]["recent_history"].keys()
        assert EXPECTED[kind] <= measured, name
        others = set().union(*EXPECTED.values()) - EXPECTED[kind] - {"perplexity"}
        assert not others & measured, name


def test_the_record_of_all_tasks_has_everything_and_says_who_judged(found):
    known = found["methods"]["recent_history"]
    assert known["own_best_share"]["n"] == known["specificity_gap"]["n"] == len(USERS)
    assert "drift" not in known  # pooled, which it is counted from, was not measured
    assert "own_best_share" not in found["methods"]["base"]
    assert {"accuracy", "mae", "recall@10", "win_rate", "tie_rate", "loss"} <= found["methods"]["recent_history"].keys()
    assert found["methods"]["majority"].keys() >= {"accuracy", "macro_f1", "mae", "rmse"}
    assert found["run"]["judge"]["by"] == "likelihood under the pooled model"
    pairs = {(row["a"], row["b"], row["metric"]) for row in found["comparisons"]}
    assert ("base", "majority", "accuracy") in pairs
    assert ("recent_history", "popularity", "recall@10") in pairs
    costs = found["costs"]
    assert costs["recent_history"]["prompt_tokens"] > costs["base"]["prompt_tokens"] > 1
    assert costs["base"]["seconds_per_choice"] > 0
    assert set(costs) == {"base", "recent_history"}


def test_the_page_shows_every_task(found):
    page = render_comparison(found)
    assert all(f"<h3>{name}: 4 rows of 4 users</h3>" in page for name in TASKS)
    assert "own_majority" in page
