"""The comparison page: which method to use for this corpus, and what it costs. One HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from imprint.evaluate.definitions import DECIDING
from imprint.report.labels import CHOSEN_BY_KIND, format_value, label
from imprint.report.page import embedded, flattened, page_css, shown
from imprint.report.plots import COLOURS, INK, figure_of
from imprint.report.recommendation import (
    all_the_same,
    answers,
    best_method,
    cost_per_user,
    headline,
    means_of,
    unit_of,
    with_loss,
)
from imprint.report.tables import MethodRow, comparison_table, method_table, metric_keys

if TYPE_CHECKING:
    from jinja2 import Template
    from plotly.graph_objects import Figure

Record = Mapping[str, Any]


def render_comparison(metrics: Record) -> str:
    """The whole page from `metrics.json` of a comparison. The same input gives the same bytes."""
    figures = {"means": means_plot(metrics), "history": history_plot(metrics), "costs": costs_plot(metrics)}
    compared = {"loss", metrics["deciding"], *(DECIDING[task["kind"]] for task in metrics["by_task"])}
    return _template().render(
        css=page_css(),
        headline=headline(metrics),
        answers=answers(metrics),
        figures={
            name: embedded(name, figure, with_library=place == 0)
            for place, (name, figure) in enumerate(figures.items())
        },
        keys=[key for key in metric_keys(metrics) if key not in ("seconds_per_user", "bytes_per_user")],
        rows=method_table(metrics),
        costs=cost_table(metrics),
        history=metrics["by_history"],
        tasks=task_tables(metrics),
        methods=with_loss(metrics),
        deciding=metrics["deciding"],
        comparisons=[row for row in comparison_table(metrics) if row.metric in compared],
        budget=metrics["budget_tokens"],
        dirty=metrics["run"].get("code", {}).get("dirty"),
        definitions=metrics["definitions"],
        conditions=flattened(metrics["run"]),
    )


def task_tables(metrics: Record) -> list[dict[str, Any]]:
    """`{"task", "rows", "users", "columns", "methods"}` of each task: its methods as rows, metrics as columns."""
    found = []
    for task in metrics["by_task"]:
        methods: list[MethodRow] = method_table({**task, "definitions": metrics["definitions"]})
        columns = [key for key in CHOSEN_BY_KIND[task["kind"]] if any(key in row.cells for row in methods)]
        found.append({**{key: task[key] for key in ("task", "rows", "users")}, "columns": columns, "methods": methods})
    return found


def cost_table(metrics: Record) -> list[tuple[str, dict[str, str]]]:
    """(method, costs as text) in the page's order."""
    rows = []
    for name in with_loss(metrics):
        cost = metrics["costs"][name]
        rows.append(
            (
                name,
                {
                    "training tokens": f"{cost['training_tokens']:,}",
                    "training": f"{cost['training_seconds']:.1f} s",
                    "search": f"{cost['search_seconds']:.1f} s",
                    "one more user": format_value("seconds_per_user", cost_per_user(metrics, name, "seconds_per_user")),
                    "kept of a user": format_value("bytes_per_user", cost_per_user(metrics, name, "bytes_per_user")),
                    "prompt": f"{cost['prompt_tokens']:.0f} tokens",
                    "beside it": f"{cost['latents']:.0f} latents" if cost["latents"] else "nothing",
                    "one response": _milliseconds(cost["seconds_per_response"]),
                    "one choice": _milliseconds(cost["seconds_per_choice"]),
                    "one scored row": _milliseconds(cost["seconds_per_scored_row"]),
                },
            )
        )
    return rows


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds else "none made"


def means_plot(metrics: Record) -> Figure:
    """Mean of each method in the deciding metric, with its interval."""
    key, means = metrics["deciding"], means_of(metrics)
    names, same = list(means), all_the_same(means)
    best = [name for name in names if means[name] == means[best_method(metrics)] and not same]
    have = "has" if len(best) == 1 else "have"
    finding = f"{' and '.join(best)} {have} the best {label(key)} of {len(names)} methods with a model"
    figure = figure_of(f"No method differs in {label(key)}" if same else finding, "", _axis(metrics))
    found = [metrics["methods"][name][key] for name in names]
    figure.add_scatter(
        x=[escape(name) for name in names],
        y=[one["mean"] for one in found],
        error_y={**_bars(found), "color": INK},
        mode="markers",
        marker={"size": 10, "color": [COLOURS["memory"] if name in best else COLOURS["base"] for name in names]},
    )
    return figure


def _bars(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [one["high"] - one["mean"] for one in found],
        "arrayminus": [one["mean"] - one["low"] for one in found],
        "thickness": 1,
    }


def history_plot(metrics: Record) -> Figure:
    """Mean of each method in the deciding metric over users with short, middle and long histories."""
    groups = metrics["by_history"]
    title = f"By how much history a user has: {label(metrics['deciding'])}"
    if len(groups) == 1:
        title = "All users have the same amount of history"
    figure = figure_of(title, "training interactions of the user", _axis(metrics))
    for name in with_loss(metrics):
        found = [group["methods"][name] for group in groups]
        figure.add_scatter(
            x=[f"{group['from']} to {group['to']}" for group in groups],
            y=[one["mean"] for one in found],
            error_y=_bars(found),
            mode="lines+markers",
            name=escape(name),
        )
    figure.update_xaxes(type="category")
    return figure


def costs_plot(metrics: Record) -> Figure:
    """The deciding metric against what one more user costs; methods that cost nothing stand at the left."""
    names, key = with_loss(metrics), metrics["deciding"]
    seconds = {name: cost_per_user(metrics, name, "seconds_per_user") for name in names}
    floor = min((value for value in seconds.values() if value > 0), default=1e-3) / 2
    title = f"What a better {label(key)} costs"
    figure = figure_of(title, "seconds that one more user costs (log scale)", _axis(metrics))
    figure.add_scatter(
        x=[max(seconds[name], floor) for name in names],
        y=[metrics["methods"][name][key]["mean"] for name in names],
        error_y={**_bars([metrics["methods"][name][key] for name in names]), "color": INK},
        mode="markers+text",
        text=[escape(name) for name in names],
        textposition="top center",
        marker={"size": 9, "color": COLOURS["memory"]},
    )
    figure.update_xaxes(type="log")
    return figure


def _axis(metrics: Record) -> str:
    return ", ".join(part for part in (label(metrics["deciding"]), unit_of(metrics)) if part)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"label": label, "shown": shown, "value": lambda value, key: format_value(key, value)}
    source = resources.files("imprint.report").joinpath("comparison.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
