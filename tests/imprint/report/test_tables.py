"""Tables mark and judge in the direction that the record states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imprint.report.labels import format_value
from imprint.report.tables import (
    comparison_table,
    config_in_words,
    method_table,
    ordered_methods,
    ranked_trials,
    terminal_tables,
    verdict,
)

Make = Callable[..., dict[str, Any]]


def best(metrics: dict[str, Any], key: str) -> list[str]:
    """Methods marked best in one metric."""
    return [row.method for row in method_table(metrics) if key in row.cells and row.cells[key].best]


def test_the_best_mark_follows_the_direction_of_each_metric(evaluation: Make) -> None:
    """The lowest loss and the highest ROUGE are best, and it is not always memory."""
    assert best(evaluation()["metrics"], "loss") == ["memory"]
    assert best(evaluation()["metrics"], "rouge1") == ["memory"]
    lost = evaluation({"base": 2.0, "memory": 2.9})["metrics"]
    assert best(lost, "loss") == ["base"]
    assert best(lost, "rouge1") == ["base"]


def test_the_direction_is_the_one_in_the_record(evaluation: Make) -> None:
    """A record read back years later is judged by its own definitions, not by today's."""
    metrics = evaluation()["metrics"]
    metrics["definitions"]["loss"]["higher_is_better"] = True
    assert best(metrics, "loss") == ["base"]
    metrics["definitions"]["loss"]["higher_is_better"] = None
    assert best(metrics, "loss") == []


def test_nothing_is_best_of_one_and_a_tie_is_shared(evaluation: Make) -> None:
    """Only memory has a size here; equal means are both best."""
    metrics = evaluation()["metrics"]
    assert best(metrics, "bytes_per_user") == []
    metrics["methods"]["pooled"]["loss"] = dict(metrics["methods"]["memory"]["loss"])
    assert best(metrics, "loss") == ["pooled", "memory"]


def test_methods_have_a_fixed_order_and_strangers_come_last(evaluation: Make) -> None:
    """The order of the record does not matter for the four methods of every table."""
    metrics = evaluation({"stranger": 2.4, "memory": 1.9, "pooled": 2.3, "base": 2.6})["metrics"]
    assert ordered_methods(metrics) == ["base", "pooled", "memory", "stranger"]


def test_a_cell_shows_mean_and_interval_and_a_missing_metric_has_no_cell(evaluation: Make) -> None:
    """Not measured is not zero."""
    metrics = evaluation()["metrics"]
    rows = {row.method: row for row in method_table(metrics)}
    score = metrics["methods"]["memory"]["loss"]
    assert rows["memory"].cells["loss"].mean == f"{score['mean']:.3f}"
    assert rows["memory"].cells["loss"].interval == f"{score['low']:.3f} to {score['high']:.3f}"
    assert "bytes_per_user" not in rows["base"].cells


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("loss", 1.23456, "1.235"),
        ("bleu", 12.345, "12.35"),
        ("own_best_share", 0.975, "97.5 %"),
        ("win_rate", 0.5, "50.0 %"),
        ("recall@10", 0.125, "0.125"),
        ("bytes_per_user", 412_000, "412.0 kB"),
        ("bytes_per_user", 12, "12 B"),
        ("seconds_per_user", 3.14159, "3.14 s"),
        ("a_metric_of_the_future", 0.5, "0.500"),
    ],
)
def test_values_have_the_digits_and_the_unit_of_their_metric(metric: str, value: float, text: str) -> None:
    """A reader never has to guess between bytes and kilobytes."""
    assert format_value(metric, value) == text


@pytest.mark.parametrize(
    ("low", "high", "p_holm", "direction", "expected"),
    [
        (-0.3, -0.1, 0.001, False, "better"),
        (-0.3, -0.1, 0.001, True, "worse"),
        (0.1, 0.3, 0.001, False, "worse"),
        (0.1, 0.3, 0.001, True, "better"),
        (-0.1, 0.3, 0.001, True, "undecided"),
        (0.1, 0.3, 0.05, True, "undecided"),
        (0.1, 0.3, 0.001, None, "undecided"),
    ],
)
def test_a_verdict_needs_interval_and_p_and_a_direction(
    low: float, high: float, p_holm: float, direction: bool | None, expected: str
) -> None:
    """Either alone is too easily chance, and so is a p that was one of many."""
    row = {"difference": (low + high) / 2, "low": low, "high": high, "p": 0.0001, "p_holm": p_holm}
    assert verdict(row, direction) == expected


def test_comparisons_are_shown_with_sign_and_verdict(evaluation: Make) -> None:
    """Memory saves about 0.7 nats against base: the difference is negative and better."""
    row = comparison_table(evaluation()["metrics"])[0]
    assert (row.a, row.b, row.metric, row.verdict) == ("memory", "base", "loss", "better")
    assert row.difference.startswith("-0.")
    assert row.p == "< 0.001"
    assert row.p_holm == "0.001"


def test_nothing_is_best_where_all_are_equal(evaluation: Make) -> None:
    """Three zeros are no victory."""
    metrics = evaluation()["metrics"]
    for scores in metrics["methods"].values():
        scores["rouge1"]["mean"] = 0.0
    assert best(metrics, "rouge1") == []


def on_80_columns(metrics: dict[str, Any]) -> str:
    """What a person sees."""
    from rich.console import Console

    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        console.print(*terminal_tables(metrics), sep="\n")
    return capture.get()


def test_the_terminal_shows_every_method_as_it_is(evaluation: Make) -> None:
    """No name is cut, and one with square brackets is text and not an instruction to rich."""
    names = ("base", "random_memory", "population_memory", "memory", "memory+retrieval", "[red]retrieval")
    metrics = evaluation(dict.fromkeys(names, 2.6))["metrics"]
    one = {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 12}
    metrics["methods"]["memory"] |= {"own_best_share": one, "fact_presence": one, "win_rate": one}
    metrics["methods"]["memory"]["bytes_per_user"] = {"mean": 16_400.0, "low": 16_400.0, "high": 16_400.0, "n": 12}
    text = on_80_columns(metrics)
    assert all(f"\n {name} " in text for name in names)
    assert "16.4–16.4 kB" in text


def test_the_terminal_shows_means_over_intervals_and_a_unit_once(evaluation: Make) -> None:
    """Of the headline metrics that were measured; a metric that a method has not is none."""
    metrics = evaluation()["metrics"]
    metrics["methods"]["memory"]["win_rate"] = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 12}
    metrics["methods"]["memory"]["bytes_per_user"] = {"mean": 900.0, "low": 800.0, "high": 1200.0, "n": 12}
    text = on_80_columns(metrics)
    loss = metrics["methods"]["memory"]["loss"]
    assert f"{loss['mean']:.3f}" in text
    assert f"{loss['low']:.3f}–{loss['high']:.3f}" in text
    assert "25.0–75.0 %" in text
    assert "800 B–1.2 kB" in text
    assert "none" in text
    assert "BLEU" not in text


def test_trials_are_ranked_by_objective_and_only_finished_ones_count(trial: Make) -> None:
    """A refused trial with a left-over value is not a result."""
    found = ranked_trials(
        [trial("tpe", 0, 2.0), trial("tpe", 1, None), trial("tpe", 2, 1.0, status="refused"), trial("random", 0, 1.5)]
    )
    assert [one["objective_value"] for one in found] == [1.5, 2.0]


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([8], "rank 8 in every layer"),
        ([4, 4], "rank 4 in every layer"),
        ([0, 0, 8, 4], "none in layer groups 1 to 2, rank 8 in layer group 3, rank 4 in layer group 4 of 4"),
    ],
)
def test_ranks_are_told_by_layer_group(ranks: list[int], words: str) -> None:
    """Groups are counted from 1 and from the input, as people count."""
    assert config_in_words({"ranks": ranks}) == words


def test_a_config_is_told_completely(trial: Make) -> None:
    """Each searched field is in the sentence; an empty config says so."""
    assert config_in_words(trial("tpe", 0, 1.0)["config"]) == (
        "none in layer groups 1 to 2, rank 8 in layer groups 3 to 4 of 4; on up and down; "
        "lora_alpha 2 times the rank; 2 episodes; learning rate 0.002; 3 epochs"
    )
    assert config_in_words({"epochs": 2, "strength": 1.5}) == "2 epochs; added at 1.5 times its trained strength"
    assert config_in_words({"epochs": 2, "strength": 1.0}) == "2 epochs"
    assert config_in_words({}) == "no config recorded"
