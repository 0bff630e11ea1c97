"""The comparison page answers which method to use, in either direction, from the record alone."""

import json
import re

import pytest

from imprint.evaluate.definitions import METRICS
from imprint.report.comparison import (
    cost_table,
    costs_plot,
    history_plot,
    means_plot,
    render_comparison,
    task_tables,
)
from imprint.report.recommendation import answers, best_method, headline, not_worse

MEANS = {"base": 2.6, "pooled": 2.3, "retrieval": 2.4, "persona_plug": 2.29, "fixed_memory": 2.1, "memory": 1.7}


def task(name, kind, methods, comparisons=()):
    about = {"task": name, "kind": kind, "rows": 30, "users": 12}
    return {**about, "methods": methods, "comparisons": list(comparisons)}


def interval(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 12}


@pytest.fixture
def compared(evaluation):
    """The record of a comparison with these mean losses, with `memory` against each, or of `deciding` instead."""

    def make(means=MEANS, deciding="loss"):
        metrics = evaluation(means)["metrics"]
        if deciding != "loss":
            for scores in metrics["methods"].values():
                scores[deciding] = scores["loss"]
            compared = [row for row in metrics["comparisons"] if row["metric"] == "loss"]
            metrics["comparisons"] = [{**row, "metric": deciding} for row in compared]
            metrics["definitions"][deciding] = {**metrics["definitions"]["loss"], "unit": METRICS[deciding].unit}
            metrics["definitions"][deciding]["higher_is_better"] = METRICS[deciding].higher_is_better
        for scores in metrics["methods"].values():
            for metric in ("seconds_per_user", "bytes_per_user"):
                scores.setdefault(metric, {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 12})
        cost = {
            "training_tokens": 1000,
            "training_seconds": 2.0,
            "search_seconds": 0.0,
            "cut_users": 0,
            "fit_seconds": 0.1,
            "seconds_per_scored_row": 0.001,
            "seconds_per_choice": 0.0,
            "prompt_tokens": 12.4,
            "latents": 0.0,
            "seconds_per_response": 0.002,
        }
        groups = [
            {
                "from": low,
                "to": low + 9,
                "users": 4,
                "methods": {name: one[deciding] for name, one in metrics["methods"].items()},
                "comparisons": metrics["comparisons"],
            }
            for low in (10, 20)
        ]
        parts = {"deciding": deciding, "budget_tokens": 5000, "costs": dict.fromkeys(means, cost), "by_history": groups}
        return {**metrics, **parts, "by_task": [task("dialogue", "text", metrics["methods"])]}

    return make


def test_the_best_is_recommended_where_it_beats_everybody(compared):
    assert headline(compared()).startswith("Use memory: its loss of 1.")


def test_who_cannot_be_told_from_the_best_is_named(compared):
    metrics = compared({**MEANS, "fixed_memory": 1.74})

    assert best_method(metrics) in ("memory", "fixed_memory")
    (other,) = not_worse(metrics, best_method(metrics))
    assert f"but {other} may be as good" in headline(metrics)


def test_a_memory_that_loses_is_not_recommended(compared):
    """The page has memory against retrieval, so the verdict is turned round; others were not compared with it."""
    metrics = compared({**MEANS, "retrieval": 1.0})

    assert best_method(metrics) == "retrieval"
    assert "memory" not in not_worse(metrics, "retrieval")
    assert "pooled" in not_worse(metrics, "retrieval")


def test_the_cheapest_of_equally_good_ones_and_what_to_use_by_history(compared):
    metrics = compared({**MEANS, "fixed_memory": 1.74})
    best = best_method(metrics)
    (other,) = not_worse(metrics, best)
    metrics["methods"][other]["bytes_per_user"] = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 12}
    metrics["methods"][best]["bytes_per_user"] = {"mean": 9.0, "low": 9.0, "high": 9.0, "n": 12}
    metrics["by_history"][0]["methods"]["pooled"] = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 4}

    said = " ".join(answers(metrics))

    assert f"{other} is the cheapest: 1.00 s and 0 B a user" in said
    assert "For the 4 users with 10 to 19 training interactions: pooled has the best loss, 0.500" in said
    assert f"For the 4 users with 20 to 29 training interactions: {best} has" in said
    assert f"but {other} may be as good" in said


def test_who_has_the_best_mean_of_some_users_is_not_said_to_be_the_best(compared):
    metrics = compared()
    first, second = metrics["by_history"]
    sure = {"a": "memory", "metric": "loss", "difference": -0.2, "low": -0.3, "high": -0.1, "p": 0.001, "p_holm": 0.004}
    first["comparisons"] = [{**sure, "b": name} for name in first["methods"] if name != "memory"]
    second["comparisons"] = [{**row, "p_holm": 0.5} for row in first["comparisons"]]

    said = answers(metrics)

    assert any("10 to 19" in one and one.endswith("better than that of every other method.") for one in said)
    assert any("20 to 29" in one and one.endswith("but is told from no other method.") for one in said)


def test_a_budget_that_cut_a_methods_training_is_named(compared):
    metrics = compared()
    assert "less often" not in " ".join(answers(metrics))
    metrics["costs"]["memory"] = {**metrics["costs"]["memory"], "cut_users": 7}
    assert "The budget of 5,000 tokens let memory go over the rows of 7 users less often" in " ".join(answers(metrics))


def test_where_ratings_decide_the_page_speaks_of_ratings(compared):
    metrics = compared(deciding="mae")

    said = r"Use memory: its MAE of 1\.\d+ points of the rating is lower than that of every other method"
    assert re.fullmatch(said, headline(metrics))
    assert "has the best MAE" in " ".join(answers(metrics))
    page = render_comparison(metrics)
    assert "memory has the best MAE of 6 methods with a model" in page
    assert "MAE, points of the rating" in page
    metrics["comparisons"] += [{**row, "metric": "loss"} for row in metrics["comparisons"]]
    opened, _, folded = render_comparison(metrics).partition('id="pairs"')[2].partition("<details>")
    assert (opened.count("<tr><td>"), folded.partition("</table>")[0].count("<tr><td>")) == (5, 5)
    assert "5 of other metrics" in folded
    assert "said by MAE" in page


def test_where_more_is_better_the_highest_is_the_best(compared):
    """The invented values are those of losses, so base has the most."""
    metrics = compared(deciding="recall@10")

    assert best_method(metrics) == "base"
    assert re.match(r"base has the highest Recall@10, 2\.\d+, but .* may be as good", headline(metrics))
    assert "For the 4 users with 10 to 19 training interactions: base has the best Recall@10" in " ".join(
        answers(metrics)
    )


def test_a_baseline_that_the_best_method_does_not_beat_is_named(compared):
    """A majority that costs nothing must not hide behind methods that have a loss."""
    metrics = compared(deciding="mae")
    metrics["methods"]["own_majority"] = {"mae": interval(0.4)}
    row = {"a": "memory", "b": "own_majority", "metric": "mae", "difference": 1.3, "low": 1.2, "high": 1.4, "p": 0.001}
    metrics["comparisons"].append({**row, "p_holm": 0.01})

    said = "own_majority, which uses no model, has MAE 0.400; memory is not better."
    assert said in answers(metrics)
    metrics["comparisons"][-1] |= {"difference": -1.3, "low": -1.4, "high": -1.2}
    assert said not in answers(metrics)


def test_a_method_that_a_baseline_beats_is_not_recommended(compared):
    metrics = compared(deciding="mae")
    metrics["methods"]["own_majority"] = {"mae": interval(0.4)}
    said = r"memory has the lowest MAE of all models, 1\.\d+ points of the rating, but is not better than own_majority"
    assert re.match(said, headline(metrics))


def test_where_all_are_the_same_none_is_best(compared):
    """As where no method has any item among the first ten."""
    metrics = compared(deciding="recall@10")
    nothing = interval(0.0)
    for measured in metrics["methods"].values():
        measured["recall@10"] = nothing
    for group in metrics["by_history"]:
        group["methods"] = dict.fromkeys(metrics["methods"], nothing)
    metrics["by_task"] += [task("next_item", "item", {name: {"recall@10": nothing} for name in metrics["methods"]})]

    assert headline(metrics) == "No method differs in Recall@10: all have 0.000"
    assert means_plot(metrics).layout.title.text.startswith("No method differs in Recall@10")
    said = " ".join(answers(metrics))
    assert "training interactions: no method differs in Recall@10, all have 0.000." in said
    assert "Task next_item: no method differs in Recall@10, all have 0.000." in said


def test_what_a_model_reads_beside_its_prompt_stands_in_a_column_of_its_own(compared):
    """A method that attends to latents would else look as cheap as one that is told nothing."""
    metrics = compared()
    metrics["costs"] = {name: {**cost, "latents": 8.0 * (name == "memory")} for name, cost in metrics["costs"].items()}
    found = {name: (cells["prompt"], cells["beside it"]) for name, cells in cost_table(metrics)}
    assert found["memory"] == ("12 tokens", "8 latents")
    assert found["base"] == ("12 tokens", "nothing")


def test_methods_worse_than_knowing_nobody_are_named(compared):
    metrics = compared()
    about = {"a": "retrieval", "b": "pooled", "metric": "loss"}
    row = {**about, "difference": 0.1, "low": 0.05, "high": 0.2, "p": 0.001, "p_holm": 0.01}
    metrics["comparisons"].append(row)
    assert "On this corpus retrieval is worse than the pooled model" in " ".join(answers(metrics))
    metrics["comparisons"][-1] = {**row, "low": -0.05}
    assert "worse than the pooled" not in " ".join(answers(metrics))


def test_each_task_has_its_table_and_its_best_baselines_included(compared):
    metrics = compared()
    assert "Task dialogue" not in " ".join(answers(metrics))  # the headline says it already
    metrics["methods"]["majority"] = {"mae": interval(0.4)}
    rated = {"memory": {"loss": interval(1.0), "mae": interval(0.9)}, "majority": {"mae": interval(0.4)}}
    listed = {"memory": {"recall@10": interval(0.3)}, "popularity": {"recall@10": interval(0.2)}}
    better = {
        "a": "majority",
        "b": "memory",
        "metric": "mae",
        "difference": -0.5,
        "low": -0.6,
        "high": -0.4,
        "p_holm": 0.01,
    }
    metrics["by_task"] += [task("stars", "rating", rated, [better]), task("next_item", "item", listed)]

    said = " ".join(answers(metrics))
    tables = {one["task"]: one for one in task_tables(metrics)}

    assert "Task dialogue: memory has the best loss" in said
    assert "Task stars: majority has the best MAE, 0.400, better than that of every other method." in said
    assert "Task next_item: memory has the best Recall@10, 0.300, but is told from no other method." in said
    assert tables["stars"]["columns"] == ["mae", "loss"]
    assert [(row.method, sorted(row.cells)) for row in tables["stars"]["methods"]] == [
        ("majority", ["mae"]),
        ("memory", ["loss", "mae"]),
    ]
    page = render_comparison(metrics)
    assert page.count('class="task"') == 3
    assert "Holm" in page
    assert re.search(r"<td>majority</td>", page)


@pytest.mark.parametrize("plot", [means_plot, history_plot, costs_plot])
def test_every_mean_that_is_drawn_has_its_interval(compared, plot):
    metrics = compared()
    known = [(one["loss"]["mean"], one["loss"]["high"]) for one in metrics["methods"].values()]
    for drawn in plot(metrics).data:
        for mean, above in zip(drawn.y, drawn.error_y.array, strict=True):
            assert any(pytest.approx(one) == (mean, mean + above) for one in known)


def test_the_page_is_one_file_the_same_twice_and_escapes_what_it_shows(compared):
    metrics = compared()
    metrics["methods"]["<b>x"] = metrics["methods"]["base"]
    metrics["costs"]["<b>x"] = metrics["costs"]["base"]
    for group in metrics["by_history"]:
        group["methods"]["<b>x"] = group["methods"]["base"]

    page = render_comparison(json.loads(json.dumps(metrics)))

    assert page == render_comparison(metrics)
    text = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<b>x" not in text
    assert "&lt;b&gt;x" in text
    assert not re.search(r"(src|href)\s*=\s*[\"']?http", text)
    assert all(f'id="{name}"' in text for name in ("scores", "history", "costs", "pairs"))
    assert "at most 5,000 tokens" in text
