"""Records as tables of text: methods by metrics, paired comparisons, the best trials, a config in words.

Every best mark and every verdict follows the direction that the record itself carries (`definitions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

from imprint.evaluate.definitions import METRICS
from imprint.report.labels import METHOD_ORDER, format_value, label

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SIGNIFICANT = 0.05
HEADLINES = (
    "loss",
    "rougeL",
    "persona_f1",
    "win_rate",
    "accuracy",
    "mae",
    "recall@10",
    "fact_presence",
    "own_best_share",
    "seconds_per_user",
    "bytes_per_user",
)
"""What a terminal shows of all that was measured."""
COLUMNS = 4
"""Metrics beside each other in a terminal of 80 columns."""

Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Cell:
    """One score as text; `interval` is "low to high". `best` marks the best of its metric, every one of a tie."""

    mean: str
    interval: str
    n: int
    best: bool


@dataclass(frozen=True)
class MethodRow:
    """One method; `cells` has the metrics that were measured for it, and no others."""

    method: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class ComparisonRow:
    """a - b as text, and what it says about `a`; `p` is Wilcoxon's, `p_holm` the same corrected for its company."""

    a: str
    b: str
    metric: str
    difference: str
    interval: str
    p: str
    p_holm: str
    verdict: Verdict


def higher_is_better(metrics: Mapping[str, Any], metric: str) -> bool | None:
    """The direction of `metric` as the record states it, else as `METRICS` does; None where neither knows one."""
    recorded = metrics.get("definitions", {}).get(metric)
    if recorded is not None:
        return recorded["higher_is_better"]  # type: ignore[no-any-return]
    known = METRICS.get(metric)
    return known.higher_is_better if known else None


def ordered_methods(metrics: Mapping[str, Any]) -> list[str]:
    """Methods of the record in the order of METHOD_ORDER, then any others in the record's own."""
    methods = metrics["methods"]
    return [name for name in METHOD_ORDER if name in methods] + [name for name in methods if name not in METHOD_ORDER]


def metric_keys(metrics: Mapping[str, Any]) -> list[str]:
    """Metrics that at least one method has, in the order of `METRICS`, then any unknown ones."""
    used = list(dict.fromkeys(key for scores in metrics["methods"].values() for key in scores))
    return [key for key in METRICS if key in used] + [key for key in used if key not in METRICS]


def method_table(metrics: Mapping[str, Any]) -> list[MethodRow]:
    """One row a method, in `ordered_methods`' order. Nothing is best of one, or of equals."""
    best = {key: _best_methods(metrics, key) for key in metric_keys(metrics)}
    return [
        MethodRow(
            method,
            {
                key: Cell(
                    mean=format_value(key, score["mean"]),
                    interval=f"{format_value(key, score['low'])} to {format_value(key, score['high'])}",
                    n=score["n"],
                    best=method in best[key],
                )
                for key, score in metrics["methods"][method].items()
            },
        )
        for method in ordered_methods(metrics)
    ]


def _best_methods(metrics: Mapping[str, Any], key: str) -> set[str]:
    means = {method: scores[key]["mean"] for method, scores in metrics["methods"].items() if key in scores}
    direction = higher_is_better(metrics, key)
    if direction is None or len(means) < 2:
        return set()
    if len(set(means.values())) == 1:
        return set()
    best = max(means.values()) if direction else min(means.values())
    return {method for method, mean in means.items() if mean == best}


def verdict(comparison: Mapping[str, Any], direction: bool | None) -> Verdict:
    """What a paired comparison says about its `a`.

    Decided only where the interval excludes 0 and p, corrected for the number of comparisons, is below 0.05: one of the
    two alone is too easily chance.
    """
    excludes_zero = comparison["low"] > 0 or comparison["high"] < 0
    if direction is None or not excludes_zero or comparison["p_holm"] >= SIGNIFICANT:
        return "undecided"
    return "better" if (comparison["difference"] > 0) == direction else "worse"


def comparison_table(metrics: Mapping[str, Any]) -> list[ComparisonRow]:
    """One row a paired comparison, in the record's order."""
    return [
        ComparisonRow(
            a=row["a"],
            b=row["b"],
            metric=row["metric"],
            difference=f"{row['difference']:+.3f}",
            interval=f"{row['low']:+.3f} to {row['high']:+.3f}",
            p=p_in_words(row["p"]),
            p_holm=p_in_words(row["p_holm"]),
            verdict=verdict(row, higher_is_better(metrics, row["metric"])),
        )
        for row in metrics["comparisons"]
    ]


def p_in_words(p: float) -> str:
    """`p` with three digits, or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def terminal_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """The scores for a terminal of 80 columns: `rich` tables with a row a method, for four of the HEADLINES each."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    rows = method_table(metrics)
    measured = [key for key in HEADLINES if any(key in row.cells for row in rows)]
    tables = []
    for first in range(0, len(measured), COLUMNS):
        keys = measured[first : first + COLUMNS]
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("method", min_width=max(len(row.method) for row in rows))  # a cut name is another method's
        for key in keys:
            table.add_column(label(key), justify="right")
        for row in rows:
            if any(key in row.cells for key in keys):
                # Text, not str: a method's name is data, and rich reads square brackets in a str as markup
                table.add_row(Text(row.method), *(_terminal_cell(row.cells.get(key)) for key in keys))
        tables.append(table)
    if tables:
        tables[-1].caption = "mean over users, 95 % bootstrap interval below; bold: best"
    return tables


def _terminal_cell(cell: Cell | None) -> Text:
    from rich.text import Text

    if cell is None:
        return Text("none", style="dim")
    low, high = cell.interval.split(" to ")
    unit = low.partition(" ")[2]
    if high.partition(" ")[2] == unit:
        low = low.partition(" ")[0]  # a unit that both have is said once
    return Text(cell.mean, style="bold" if cell.best else "").append(f"\n{low}–{high}", style="dim not bold")


def ranked_trials(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Trials that gave an objective value, best (lowest) first; ties keep their order."""
    return sorted(finished_trials(trials), key=lambda trial: trial["objective_value"])


def finished_trials(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Trials with status "ok" and an objective value, in their order."""
    return [trial for trial in trials if trial["status"] == "ok" and trial["objective_value"] is not None]


def config_in_words(config: Mapping[str, Any] | None) -> str:
    """A memory config as one sentence part: "rank 8 in layer groups 3 to 4 of 4, none below; down; …"."""
    if config is None:
        return "no valid config"  # a refused trial has none
    parts = [_ranks_in_words(config["ranks"])] if config.get("ranks") else []
    if config.get("targets"):
        parts.append("on " + " and ".join(str(target) for target in config["targets"]))
    if "alpha_ratio" in config:
        parts.append(f"lora_alpha {config['alpha_ratio']:g} times the rank")
    if "n_memories" in config:
        parts.append(f"{config['n_memories']} episode{'' if config['n_memories'] == 1 else 's'}")
    if "learning_rate" in config:
        parts.append(f"learning rate {config['learning_rate']:.2g}")
    if "epochs" in config:
        parts.append(f"{config['epochs']} epoch{'' if config['epochs'] == 1 else 's'}")
    if config.get("strength", 1.0) != 1.0:
        parts.append(f"added at {config['strength']:g} times its trained strength")
    return "; ".join(parts) or "no config recorded"


def _ranks_in_words(ranks: Sequence[int]) -> str:
    if len(set(ranks)) == 1:
        return f"rank {ranks[0]} in every layer" if ranks[0] else "no memory in any layer"
    parts, first = [], 1
    for rank, run in groupby(ranks):
        last = first + len(list(run)) - 1
        groups = f"group {first}" if first == last else f"groups {first} to {last}"
        parts.append(f"{f'rank {rank}' if rank else 'none'} in layer {groups}")
        first = last + 1
    return ", ".join(parts) + f" of {len(ranks)}"
