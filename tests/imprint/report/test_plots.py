"""Figures show what the data say, the right way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imprint.report import plots

Make = Callable[..., dict[str, Any]]


def title(figure: Any) -> str:
    """The title of a figure on one line."""
    return figure.layout.title.text.replace("<br>", " ")


def trace(figure: Any, name: str) -> Any:
    """The trace of that name."""
    return next(one for one in figure.data if one.name == name)


def test_best_so_far_never_rises_and_failures_are_below_every_value(trials: list[dict[str, Any]]) -> None:
    """A failed trial has no value: it is marked at the bottom with its reason, and moves no line."""
    figure = plots.convergence(trials)
    best = trace(figure, "TPE, best so far")
    assert list(best.y) == [2.4, 2.3, 2.1, 2.1, 1.95, 1.95, 1.9]
    assert list(best.x) == [1, 2, 4, 5, 6, 7, 8]
    lost = trace(figure, "TPE, failed or refused")
    assert list(lost.x) == [3, 9]
    assert max(lost.y) < 1.9
    assert "the loss was not finite" in lost.hovertext[0]
    assert "refused" in lost.hovertext[1]
    assert figure.layout.shapes[0].y0 == 2.15


def test_the_title_of_the_convergence_names_the_winner_first(trial: Make, trials: list[dict[str, Any]]) -> None:
    """Also when random search wins."""
    assert title(plots.convergence(trials)).startswith("TPE reached 1.900, random search reached 2.080, fixed config")
    turned = [trial("tpe", 0, 2.0), trial("random", 0, 1.0)]
    assert title(plots.convergence(turned)).startswith("random search reached 1.000, TPE reached 2.000")


def test_convergence_of_nothing_one_trial_or_failures_only_says_so(trial: Make) -> None:
    """No search is broken enough to break the report."""
    assert title(plots.convergence([])) == "No trials were recorded"
    assert title(plots.convergence([trial("tpe", 0, None)])) == "None of the 1 trials finished"
    assert "nothing to compare" in title(plots.convergence([trial("tpe", 0, 2.0)]))


def test_text_of_a_failure_is_escaped_in_hover(trial: Make) -> None:
    """An error may quote a user's words, and plotly reads some HTML."""
    figure = plots.convergence([trial("tpe", 0, None, error="<b>bold</b> claims")])
    assert "&lt;b&gt;bold" in trace(figure, "TPE, failed or refused").hovertext[0]


def test_gains_are_sorted_and_coloured_by_sign_and_counted_in_the_title() -> None:
    """Above zero memory is better."""
    scores = [
        (method, user, loss)
        for user, memory in (("a", 2.0), ("b", 1.0), ("c", 1.5))
        for method, loss in (("memory", memory), ("pooled", 1.75), ("base", 3.0))
    ]
    figure = plots.gains(scores)
    bars = trace(figure, "against pooled")
    assert list(bars.y) == [0.75, 0.25, -0.25]
    assert list(bars.hovertext) == ["b", "c", "a"]
    assert bars.marker.color[0] != bars.marker.color[2]
    assert list(trace(figure, "against base").y) == [2.0, 1.5, 1.0]
    assert title(figure) == "2 of 3 users (67 %) gain from their own memory over pooled"


def test_gains_fall_back_to_base_and_to_a_sentence() -> None:
    """A missing method changes the opponent; missing memories leave nothing to draw."""
    assert title(plots.gains([("memory", "a", 1.0), ("base", "a", 0.5)])).startswith("0 of 1 users")
    assert title(plots.gains([("pooled", "a", 1.0)])).startswith("No user has a loss")


def test_many_users_are_drawn_as_even_quantiles_and_counted_whole() -> None:
    """The page does not grow with the population; first and last user are kept."""
    scores = [
        row for n in range(1000) for row in (("memory", f"u{n:04d}", 2.0), ("pooled", f"u{n:04d}", 1.5 + n / 1000))
    ]
    figure = plots.gains(scores)
    bars = trace(figure, "against pooled")
    assert len(bars.y) == plots.MAX_BARS
    assert (max(bars.y), min(bars.y)) == pytest.approx((0.499, -0.5))
    assert title(figure).startswith("499 of 1000 users")
    assert "200 of 1000" in figure.layout.xaxis.title.text


def test_the_heatmap_has_words_in_rows_memories_in_columns_and_zero_on_the_diagonal() -> None:
    """User a's words under b's memory cost 0.5 more: row 0, column 1."""
    figure = plots.specificity_heatmap({"users": ["a", "b"], "loss": [[1.0, 1.5], [2.25, 2.0]]})
    assert [list(row) for row in figure.data[0].z] == [[0.0, 0.5], [0.25, 0.0]]
    assert [list(cell) for cell in figure.data[0].customdata[0]] == [["a", "a"], ["a", "b"]]
    assert figure.layout.xaxis.title.text == "whose memory"
    assert figure.layout.yaxis.title.text == "whose words"
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.data[0].zmin == -figure.data[0].zmax


def test_the_title_of_the_heatmap_is_honest(specificity: dict[str, Any]) -> None:
    """It counts whose own memory is best, and says when strangers' memories are better."""
    assert title(plots.specificity_heatmap(specificity)).startswith(
        "Own memory is best for 11 of 12 users; another's costs"
    )
    bad = {"users": ["a", "b"], "loss": [[2.0, 1.5], [1.5, 2.0]]}
    assert title(plots.specificity_heatmap(bad)) == (
        "Own memory is best for 0 of 2 users; another's saves 0.500 nats per token on average"
    )


def test_the_front_has_only_what_nothing_beats(trial: Make) -> None:
    """Smaller or better, or both: the others are dominated; an equal twin appears once."""
    sized = [
        trial("tpe", n, value, size) for n, (value, size) in enumerate([(2, 10), (1, 40), (3, 20), (1, 40), (1.5, 20)])
    ]
    assert [(one["trainable_parameters"], one["objective_value"]) for one in plots.pareto_front(sized)] == [
        (10, 2),
        (20, 1.5),
        (40, 1),
    ]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([], [1, 2, 5, 10, 20, 50]), ([1500, 9000], [1000, 2000, 5000, 10_000, 20_000, 50_000]), ([900, 120_000], [100])],
)
def test_sizes_have_round_ticks_around_them(trial: Make, sizes: list[int], expected: list[int]) -> None:
    """Plotly alone writes "5" between 1k and 10k, which reads as five."""
    ticks = list(plots.pareto([trial("tpe", n, 1.0, size) for n, size in enumerate(sizes)]).layout.xaxis.tickvals)
    assert ticks[: len(expected)] == expected
    assert min(ticks) <= min(sizes, default=1)
    assert max(ticks) >= max(sizes, default=1)


def test_the_title_of_the_front_names_a_smaller_config_that_is_nearly_as_good(trial: Make) -> None:
    """Within 1 %, or none."""
    near = [trial("tpe", 0, 1.0, 4000), trial("tpe", 1, 1.005, 1000), trial("tpe", 2, 1.2, 500)]
    assert title(plots.pareto(near)) == "The best config trains 4,000 parameters; 1,000 come within 1% of its loss"
    assert title(plots.pareto(near[::2])).endswith("none smaller comes within 1% of its loss")
    assert title(plots.pareto([trial("tpe", 0, None)])) == "No finished trial has a size and an objective"
