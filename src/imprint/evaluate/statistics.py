"""Means over users with bootstrap intervals, paired tests between methods, and the record they make: `metrics.json`.

The unit of every statistic is the user: rows of one user are not independent, users are. All p values of one metric are
corrected together for their number (Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from imprint.errors import NotEnoughDataError, SettingsError
from imprint.evaluate.decisions import Counts, LabelCounts, macro_f1
from imprint.evaluate.definitions import METRICS
from imprint.provenance import seed_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COMPARED = (
    *("loss", "rouge1", "rougeL", "bleu", "persona_f1", "p_cover", "fact_presence", "fact_absence", "win_rate"),
    *("accuracy", "mae", "recall@10", "ndcg@10", "mrr", "drift"),
)
"""The metrics for which methods are compared pair by pair: means over users, each thing that can be said once."""
DRAWS_AT_ONCE = 4_000_000
"""Bootstrap draws in memory at a time (32 MB of indices), so that a million users do not need 16 GB."""


@dataclass(frozen=True)
class Interval:
    """A mean over `n` users and the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the same `n` users, its bootstrap interval, and the two-sided p of Wilcoxon's signed ranks."""

    difference: float
    low: float
    high: float
    p: float
    n: int


def bootstrap_interval(values: Sequence[float], seed: int, resamples: int = 2000, level: float = 0.95) -> Interval:
    """Mean of one value per user with the percentile bootstrap interval over users; the same for the same seed.

    One user gives low = high = mean. No value, or one that is not finite, raises `NotEnoughDataError`.
    """
    import numpy as np

    data = np.asarray(values, dtype=np.float64)
    if not data.size or not np.isfinite(data).all():
        raise NotEnoughDataError(
            f"a mean over users needs at least one value and finite values only; got {data.size} values, "
            f"{int(data.size - np.isfinite(data).sum())} of them not finite. "
            "Next: look at the scores of this method, and leave the metric out where nothing was measured."
        )
    mean = math.fsum(data) / data.size
    if data.size == 1 or np.ptp(data) == 0:
        return Interval(mean, mean, mean, data.size)
    return Interval(mean, *_bounds(_resampled_means(data, seed, resamples), level), data.size)


def bootstrap_macro_f1(counts: LabelCounts, seed: int, resamples: int = 2000, level: float = 0.95) -> Interval:
    """Macro-F1 over the rows of all users with the percentile bootstrap interval over users; `n` are the users."""
    import numpy as np

    users = np.stack([counts.users[user] for user in sorted(counts.users)])
    flat, weights, random = users.reshape(len(users), -1), counts.weights(), np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(random.integers(0, len(users), size=len(users)), minlength=len(users))
        drawn.append(macro_f1((times @ flat).reshape(users.shape[1:]), weights))
    return Interval(macro_f1(users.sum(0), weights), *_bounds(np.array(drawn), level), len(users))


def _bounds(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    import numpy as np

    edge = (1 - level) / 2
    low, high = np.quantile(drawn, [edge, 1 - edge])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p value corrected for their number by Holm's step-down method, in their order.

    Rejecting where the corrected one is below 0.05 keeps the chance of any false rejection among all below 0.05.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _resampled_means(data: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    import numpy as np

    random = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // data.size)
    means = []
    for start in range(0, resamples, at_once):
        draws = random.integers(0, data.size, size=(min(at_once, resamples - start), data.size))
        means.append(data[draws].mean(axis=1))
    return np.concatenate(means)


def paired_difference(
    a: Mapping[str, float], b: Mapping[str, float], seed: int, resamples: int = 2000
) -> PairedDifference:
    """Mean of a - b over users, with a 95 % bootstrap interval and Wilcoxon's two-sided test.

    Users without a difference say nothing about its sign and are left out of the test; where nobody differs, p = 1.
    Raises `NotEnoughDataError` unless both sides have exactly the same users.
    """
    if a.keys() != b.keys():
        raise NotEnoughDataError(
            f"a paired comparison needs the same users on both sides; {_some(a.keys() - b.keys())} are only in the "
            f"first and {_some(b.keys() - a.keys())} only in the second. Next: score both methods on the same users."
        )
    differences = [a[user] - b[user] for user in sorted(a)]
    interval = bootstrap_interval(differences, seed, resamples)
    return PairedDifference(interval.mean, interval.low, interval.high, _wilcoxon(differences), interval.n)


def _some(users: set[str]) -> str:
    shown = ", ".join(sorted(users)[:3])
    return f"{len(users)} users ({shown}{', …' if len(users) > 3 else ''})" if users else "0 users"


def _wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p; users with a difference of exactly zero are dropped (Wilcoxon's own treatment)."""
    from scipy.stats import wilcoxon

    different = [difference for difference in differences if difference != 0]
    return float(wilcoxon(different).pvalue) if different else 1.0


def summarise(
    per_user: Mapping[str, Mapping[str, Mapping[str, float]]],
    comparisons: Sequence[tuple[str, str]],
    run: Mapping[str, Any],
    seed: int,
    resamples: int = 2000,
    counts: Counts | None = None,
) -> dict[str, Any]:
    """The content of `metrics.json` from `per_user[method][metric][user]` and `counts[method][metric]`.

    Perplexity is derived from the loss. A metric without users was not measured and is left out; so is a comparison
    where a method, or the metric in one of the two, is missing. A metric that `METRICS` does not define raises
    `SettingsError`.
    """
    measured = {
        method: {metric: users for metric, users in metrics.items() if users} for method, metrics in per_user.items()
    }
    methods = {
        method: intervals(method, metrics, (counts or {}).get(method, {}), seed, resamples)
        for method, metrics in measured.items()
    }
    used = {metric for metrics in methods.values() for metric in metrics}
    return {
        "methods": methods,
        "comparisons": comparing(comparisons, measured, seed, resamples),
        "run": dict(run),
        "definitions": {key: _definition(key) for key in METRICS if key in used},
    }


def intervals(
    method: str,
    metrics: Mapping[str, Mapping[str, float]],
    counts: Mapping[str, LabelCounts],
    seed: int,
    resamples: int,
    part: str = "",
) -> dict[str, dict[str, float]]:
    """Each metric of one method over users, by name: `mean`, `low`, `high`, `n`; `part` names a part of the rows.

    Seeds come from names, so that another method or metric changes no interval. `SettingsError` for a metric that
    `METRICS` does not define.
    """
    parts = [part] if part else []
    unknown = sorted((metrics.keys() | counts.keys()) - (METRICS.keys() - {"perplexity"}))
    if unknown:
        raise SettingsError(
            f"method {method!r} has scores for {unknown}; allowed are {sorted(METRICS.keys() - {'perplexity'})} "
            "(perplexity is derived from the loss). Next: define the metric in imprint.evaluate.definitions.METRICS."
        )
    found = {}
    for metric in (key for key in METRICS if key in metrics or key in counts):
        if metric in counts:
            drawn = seed_for(seed, "interval", method, metric, *parts)
            found[metric] = asdict(bootstrap_macro_f1(counts[metric], drawn, resamples))
            continue
        users = metrics[metric]
        values = [users[user] for user in sorted(users)]
        interval = bootstrap_interval(values, seed_for(seed, "interval", method, metric, *parts), resamples)
        found[metric] = asdict(transformed(interval, math.sqrt) if METRICS[metric].root else interval)
        if metric == "loss":
            found["perplexity"] = asdict(transformed(interval, math.exp))
    return found


def comparing(
    pairs: Iterable[tuple[str, str]],
    measured: Mapping[str, Mapping[str, Mapping[str, float]]],
    seed: int,
    resamples: int,
    part: str = "",
) -> list[dict[str, Any]]:
    """A row for each pair of methods and each metric that both have, p corrected for all rows of one metric.

    `part` names a part of the users or rows.
    """
    rows = []
    for pair in pairs:
        rows += _compare(pair, (measured.get(pair[0], {}), measured.get(pair[1], {})), seed, resamples, part)
    return _corrected(rows)


def best_of(values: Mapping[str, Mapping[str, float]], higher_is_better: bool) -> str:
    """The method with the best mean over users; of equal ones the first."""
    choose = max if higher_is_better else min
    return choose(values, key=lambda method: math.fsum(values[method].values()) / len(values[method]))


def best_against_others(
    measured: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str, seed: int, resamples: int, part: str
) -> list[dict[str, Any]]:
    """`comparing` the method with the best mean of `metric` with each other one that has it, in that metric alone."""
    values = {method: metrics[metric] for method, metrics in measured.items() if metrics.get(metric)}
    if not values:
        return []
    best = best_of(values, METRICS[metric].higher_is_better is True)
    alone = {method: {metric: users} for method, users in values.items()}
    return comparing([(best, other) for other in values if other != best], alone, seed, resamples, part)


def transformed(interval: Interval, by: Callable[[float], float]) -> Interval:
    """The same interval on another scale."""
    return Interval(by(interval.mean), by(interval.low), by(interval.high), interval.n)


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons with `p_holm`, for all of one metric together."""
    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = [row for row in rows if row["metric"] == metric]
        for row, p in zip(mine, holm([row["p"] for row in mine]), strict=True):
            row["p_holm"] = p
    return rows


def _compare(
    pair: tuple[str, str],
    metrics: tuple[Mapping[str, Mapping[str, float]], Mapping[str, Mapping[str, float]]],
    seed: int,
    resamples: int,
    part: str,
) -> list[dict[str, Any]]:
    rows = []
    for metric in COMPARED:
        if all(metric in measured for measured in metrics):
            drawn = seed_for(seed, "paired", *pair, metric, *([part] if part else []))
            found = paired_difference(metrics[0][metric], metrics[1][metric], drawn, resamples)
            numbers = {key: value for key, value in asdict(found).items() if key != "n"}
            rows.append({"a": pair[0], "b": pair[1], "metric": metric, **numbers})
    return rows


def _definition(key: str) -> dict[str, Any]:
    metric = METRICS[key]
    return {
        "definition": metric.definition,
        "version": metric.version,
        "higher_is_better": metric.higher_is_better,
        "unit": metric.unit,
    }
