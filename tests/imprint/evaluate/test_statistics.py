"""Intervals and tests over users, and the record that is written from them."""

from __future__ import annotations

import json
import math
import random

import pytest

from imprint.errors import NotEnoughDataError, SettingsError
from imprint.evaluate import statistics
from imprint.evaluate.definitions import METRICS
from imprint.evaluate.statistics import bootstrap_interval, paired_difference, summarise


def users(count: int, centre: float, seed: int = 1) -> dict[str, float]:
    """Invented losses around `centre`."""
    draw = random.Random(seed)
    return {f"u{number:03d}": centre + draw.gauss(0, 0.1) for number in range(count)}


def test_the_interval_of_a_mean_agrees_with_the_normal_approximation() -> None:
    """For many users the bootstrap is 1.96 standard errors on each side."""
    values = list(users(400, 2.0).values())
    found = bootstrap_interval(values, seed=3)
    mean = sum(values) / 400
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / 400 / 400)
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)
    assert found.n == 400


def test_the_interval_is_the_same_for_the_same_seed_only() -> None:
    """A report that is made again must not differ."""
    values = list(users(20, 2.0).values())
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_a_lower_level_gives_a_narrower_interval() -> None:
    """`level` is the share of resampled means between the bounds."""
    values = list(users(20, 2.0).values())
    wide, narrow = bootstrap_interval(values, seed=3), bootstrap_interval(values, seed=3, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_drawing_in_blocks_covers_all_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 7 resamples at a time there are still 2000 of them, and the interval barely moves."""
    values = list(users(20, 2.0).values())
    whole = bootstrap_interval(values, seed=3)
    monkeypatch.setattr(statistics, "DRAWS_AT_ONCE", 7 * 20)
    blocks = bootstrap_interval(values, seed=3)
    assert blocks.low == pytest.approx(whole.low, abs=0.01)
    assert blocks.high == pytest.approx(whole.high, abs=0.01)


def test_one_user_has_an_interval_of_no_width() -> None:
    """There is nothing to resample."""
    assert bootstrap_interval([1.5], seed=1) == statistics.Interval(1.5, 1.5, 1.5, 1)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_no_user_or_a_diverged_user_is_an_error_and_not_a_number(values: list[float]) -> None:
    """A mean that leaves a diverged user out would praise the method that diverges most."""
    with pytest.raises(NotEnoughDataError, match="finite"):
        bootstrap_interval(values, seed=1)


def test_a_consistent_difference_is_found_with_its_sign() -> None:
    """Every user of b is 0.2 above a, so a - b is -0.2 and p is tiny; turned round, the sign turns."""
    a = users(30, 2.0)
    b = {user: value + 0.2 + 0.001 * place for place, (user, value) in enumerate(a.items())}
    found, turned = paired_difference(a, b, seed=1), paired_difference(b, a, seed=1)
    assert found.difference == pytest.approx(-0.2145)
    assert found.low <= found.difference <= found.high < 0
    assert found.p < 0.001
    assert turned.difference == pytest.approx(-found.difference)
    assert turned.p == pytest.approx(found.p)


def test_pairs_are_matched_by_user_and_not_by_position() -> None:
    """The same losses in another order do not differ at all."""
    a = users(10, 2.0)
    assert paired_difference(a, dict(reversed(a.items())), seed=1) == statistics.PairedDifference(0, 0, 0, 1.0, 10)


def test_chance_is_not_called_a_difference() -> None:
    """Differences that are symmetric about 0 have a p near 1."""
    a = {f"u{place}": float(place) for place in range(20)}
    b = {user: value + (0.1 + 0.01 * (value // 2)) * (-1) ** int(value) for user, value in a.items()}
    found = paired_difference(a, b, seed=1)
    assert found.p > 0.5
    assert found.low < 0 < found.high


def test_users_of_one_side_only_are_named() -> None:
    """Comparing different users is the classic way to a wrong result."""
    with pytest.raises(NotEnoughDataError, match=r"1 users \(u009\) are only in the first and 0 users only"):
        paired_difference(users(10, 2.0), users(9, 2.0), seed=1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02], [0.02]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([0.01, 0.02, 0.021], [0.03, 0.04, 0.04]),  # never below a smaller one's
        ([], []),
    ],
)
def test_holms_correction_steps_down(given: list[float], expected: list[float]) -> None:
    """The smallest p is multiplied by their number, the next by one less, and so on."""
    assert statistics.holm(given) == pytest.approx(expected)


def test_the_comparisons_of_one_metric_are_corrected_together() -> None:
    """Another metric's number does not matter; another method's does."""
    losses = {name: {"loss": users(10, mean, seed=place)} for place, (name, mean) in enumerate(MEANS.items())}
    losses["memory"]["bleu"], losses["base"]["bleu"] = users(10, 9.0), users(10, 8.9, seed=4)
    pairs = [("memory", "base"), ("memory", "pooled"), ("memory", "retrieval")]
    rows = summarise(losses, pairs, {}, seed=1)["comparisons"]

    of_loss = [row for row in rows if row["metric"] == "loss"]
    assert [row["p_holm"] for row in of_loss] == statistics.holm([row["p"] for row in of_loss])
    assert min(of_loss, key=lambda row: row["p"])["p_holm"] == pytest.approx(3 * min(row["p"] for row in of_loss))
    (bleu,) = [row for row in rows if row["metric"] == "bleu"]
    assert bleu["p_holm"] == bleu["p"]


MEANS = {"memory": 2.0, "base": 2.5, "pooled": 2.3, "retrieval": 2.4}


def record(**methods: dict[str, dict[str, float]]) -> dict:
    """A summary of `methods`, compared with base."""
    return summarise(methods, [("memory", "base")], {"seed": 5}, seed=5)


def test_the_record_has_the_schema_of_metrics_json_and_survives_json() -> None:
    """Exactly the keys of the contract, and plain numbers only."""
    made = record(base={"loss": users(10, 2.5)}, memory={"loss": users(10, 2.0, seed=2), "own_best_share": {"u000": 1}})
    assert json.loads(json.dumps(made)) == made
    assert list(made) == ["methods", "comparisons", "run", "definitions"]
    assert set(made["methods"]["base"]) == {"loss", "perplexity"}
    assert set(made["methods"]["base"]["loss"]) == {"mean", "low", "high", "n"}
    assert [set(row) for row in made["comparisons"]] == [
        {"a", "b", "metric", "difference", "low", "high", "p", "p_holm"}
    ]
    assert made["run"] == {"seed": 5}
    assert made["definitions"]["loss"]["version"] == METRICS["loss"].version
    assert set(made["definitions"]) == {"loss", "perplexity", "own_best_share"}


def test_perplexity_is_the_exponential_of_the_mean_loss_and_of_its_bounds() -> None:
    """Not the mean of perplexities, which one bad user would rule."""
    scores = record(base={"loss": users(10, 2.5)})["methods"]["base"]
    for key in ("mean", "low", "high"):
        assert scores["perplexity"][key] == pytest.approx(math.exp(scores["loss"][key]))


def test_another_method_or_metric_moves_no_interval() -> None:
    """Seeds come from names, so that reports of different runs can be laid side by side."""
    alone = record(base={"loss": users(10, 2.5)})
    more = record(memory={"bleu": users(10, 9.0)}, base={"bleu": users(10, 9.0), "loss": users(10, 2.5)})
    assert alone["methods"]["base"]["loss"] == more["methods"]["base"]["loss"]


def test_what_was_not_measured_is_left_out() -> None:
    """Generation off, or a method that did not run: no invented zero, no comparison."""
    made = summarise(
        {"base": {"loss": users(5, 2.5), "rouge1": {}}, "memory": {"loss": users(5, 2.0), "rouge1": users(5, 0.3)}},
        [("memory", "base"), ("memory", "pooled")],
        {},
        seed=1,
    )
    assert "rouge1" not in made["methods"]["base"]
    assert [(row["b"], row["metric"]) for row in made["comparisons"]] == [("base", "loss")]


@pytest.mark.parametrize("key", ["loss_per_word", "perplexity"])
def test_a_score_without_a_definition_is_refused(key: str) -> None:
    """A typing error in a key must not become a metric; perplexity has one source only."""
    with pytest.raises(SettingsError, match=key):
        record(base={key: {"u1": 1.0}})
