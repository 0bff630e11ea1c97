"""The comparison page: which method to use for this corpus, and what it costs. One HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from imprint.report.labels import CHOSEN_BY_KIND, format_value, label
from imprint.report.page import embedded, flattened, page_css, shown
from imprint.report.plots import COLOURS, INK, figure_of
from imprint.report.tables import (
    MethodRow,
    Verdict,
    comparison_table,
    higher_is_better,
    method_table,
    metric_keys,
    ordered_methods,
    verdict,
)

if TYPE_CHECKING:
    from jinja2 import Template
    from plotly.graph_objects import Figure

Record = Mapping[str, Any]
DECIDING = dict.fromkeys(keys[0] for keys in CHOSEN_BY_KIND.values())
"""The metrics that say which method is best at a kind of task."""


def render_comparison(metrics: Record) -> str:
    """The whole page from `metrics.json` of a comparison. The same input gives the same bytes."""
    figures = {"losses": losses_plot(metrics), "history": history_plot(metrics), "costs": costs_plot(metrics)}
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
        comparisons=[row for row in comparison_table(metrics) if row.metric in DECIDING],
        budget=metrics["budget_tokens"],
        dirty=metrics["run"].get("code", {}).get("dirty"),
        definitions=metrics["definitions"],
        conditions=flattened(metrics["run"]),
    )


def with_loss(metrics: Record) -> list[str]:
    """Methods in the page's order, without the baselines, which have no loss and cost nothing."""
    return [name for name in ordered_methods(metrics) if "loss" in metrics["methods"][name]]


def best_method(metrics: Record) -> str:
    """The method with the lowest mean loss; of equal ones the first in the page's order."""
    return min(with_loss(metrics), key=lambda name: metrics["methods"][name]["loss"]["mean"])


def not_worse(metrics: Record, best: str) -> list[str]:
    """Methods whose loss the paired comparison does not tell from that of `best`."""
    others = (name for name in with_loss(metrics) if name != best)
    return [name for name in others if against(metrics, best, name) != "better"]


def against(metrics: Record, method: str, other: str) -> Verdict | None:
    """What the paired comparison in loss says about `method`; None where the two were not compared."""
    for row in metrics["comparisons"]:
        if row["metric"] == "loss" and {row["a"], row["b"]} == {method, other}:
            found = verdict(row, higher_is_better(metrics, "loss"))
            if row["a"] == method or found == "undecided":
                return found
            return "worse" if found == "better" else "better"
    return None


def headline(metrics: Record) -> str:
    """Which method to use, in one sentence."""
    best = best_method(metrics)
    equal = not_worse(metrics, best)
    loss = format_value("loss", metrics["methods"][best]["loss"]["mean"])
    if not equal:
        return f"Use {best}: its loss of {loss} nats per response token is lower than that of every other method"
    return f"{best} has the lowest loss, {loss} nats per response token, but {_and(equal)} may be as good"


def answers(metrics: Record) -> list[str]:
    """Further sentences: the cheapest of equally good methods, which method for which history, and who is no use."""
    best = best_method(metrics)
    equal = [best, *not_worse(metrics, best)]
    cheapest = min(
        equal, key=lambda name: (_cost(metrics, name, "bytes_per_user"), _cost(metrics, name, "seconds_per_user"))
    )
    said = [f"{best} costs {_costs_in_words(metrics, best)}."]
    if cheapest != best:
        said.append(
            f"Of the methods that may be as good, {cheapest} is the cheapest: {_costs_in_words(metrics, cheapest)}."
        )
    for group in metrics["by_history"]:
        found = min(group["methods"], key=lambda name: group["methods"][name]["mean"])
        loss = format_value("loss", group["methods"][found]["mean"])
        said.append(f"{_users_in_words(group)}: {found} has the lowest loss, {loss}.")
    said += [sentence for task in metrics["by_task"] if (sentence := _best_at(metrics, task))]
    useless = [name for name in with_loss(metrics) if against(metrics, name, "pooled") == "worse" and name != "base"]
    if useless:
        verb = "is" if len(useless) == 1 else "are"
        said.append(f"On this corpus {_and(useless)} {verb} worse than the pooled model, which knows nobody.")
    return said


def task_tables(metrics: Record) -> list[dict[str, Any]]:
    """`{"task", "rows", "users", "columns", "methods"}` of each task: its methods as rows, metrics as columns."""
    found = []
    for task in metrics["by_task"]:
        methods: list[MethodRow] = method_table({**task, "definitions": metrics["definitions"]})
        columns = [key for key in CHOSEN_BY_KIND[task["kind"]] if any(key in row.cells for row in methods)]
        found.append({**{key: task[key] for key in ("task", "rows", "users")}, "columns": columns, "methods": methods})
    return found


def _best_at(metrics: Record, task: Record) -> str | None:
    """Which method is best at a task, in the metric of its kind; None where that was not measured, or is the page's."""
    key = CHOSEN_BY_KIND[task["kind"]][0]
    found = {name: one[key]["mean"] for name, one in task["methods"].items() if key in one}
    if not found or (key == "loss" and len(metrics["by_task"]) == 1):
        return None
    choose = max if higher_is_better(metrics, key) else min
    best = choose(found, key=lambda name: found[name])
    return f"Task {task['task']}: {best} has the best {label(key)}, {format_value(key, found[best])}."


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
                    "one more user": format_value("seconds_per_user", _cost(metrics, name, "seconds_per_user")),
                    "kept of a user": format_value("bytes_per_user", _cost(metrics, name, "bytes_per_user")),
                    "prompt": f"{cost['prompt_tokens']:.0f} tokens",
                    "one response": _milliseconds(cost["seconds_per_response"]),
                    "one choice": _milliseconds(cost["seconds_per_choice"]),
                    "one scored row": _milliseconds(cost["seconds_per_scored_row"]),
                },
            )
        )
    return rows


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds else "none made"


def losses_plot(metrics: Record) -> Figure:
    """Mean loss of each method with its interval."""
    best = best_method(metrics)
    names = with_loss(metrics)
    figure = figure_of(f"{best} has the lowest loss of {len(names)} methods", "", "loss, nats per token")
    found = [metrics["methods"][name]["loss"] for name in names]
    figure.add_scatter(
        x=[escape(name) for name in names],
        y=[one["mean"] for one in found],
        error_y={**_bars(found), "color": INK},
        mode="markers",
        marker={"size": 10, "color": [COLOURS["memory"] if name == best else COLOURS["base"] for name in names]},
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
    """Mean loss of each method over users with short, middle and long histories."""
    groups = metrics["by_history"]
    title = "Loss by how much history a user has" if len(groups) > 1 else "All users have the same amount of history"
    figure = figure_of(title, "training interactions of the user", "loss, nats per token")
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
    """Loss against what one more user costs; methods that cost nothing stand at the left."""
    names = with_loss(metrics)
    seconds = {name: _cost(metrics, name, "seconds_per_user") for name in names}
    floor = min((value for value in seconds.values() if value > 0), default=1e-3) / 2
    figure = figure_of(
        "What a lower loss costs", "seconds that one more user costs (log scale)", "loss, nats per token"
    )
    figure.add_scatter(
        x=[max(seconds[name], floor) for name in names],
        y=[metrics["methods"][name]["loss"]["mean"] for name in names],
        mode="markers+text",
        text=[escape(name) for name in names],
        textposition="top center",
        marker={"size": 9, "color": COLOURS["memory"]},
    )
    figure.update_xaxes(type="log")
    return figure


def _cost(metrics: Record, name: str, metric: str) -> float:
    found: float = metrics["methods"][name][metric]["mean"]
    return found


def _costs_in_words(metrics: Record, name: str) -> str:
    cost = metrics["costs"][name]
    seconds = format_value("seconds_per_user", _cost(metrics, name, "seconds_per_user"))
    size = format_value("bytes_per_user", _cost(metrics, name, "bytes_per_user"))
    searched = f", after a search of {cost['search_seconds']:.0f} s in all" if cost["search_seconds"] else ""
    shared = ""
    if cost["training_tokens"] and seconds and not cost["search_seconds"]:
        shared = f", after training on {cost['training_tokens']:,} tokens in all"
    return f"{seconds} and {size} a user, and {1000 * cost['seconds_per_response']:.1f} ms a response{searched}{shared}"


def _users_in_words(group: Record) -> str:
    span = str(group["from"]) if group["from"] == group["to"] else f"{group['from']} to {group['to']}"
    return f"For the {group['users']} users with {span} training interactions"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"label": label, "shown": shown, "loss": lambda value: format_value("loss", value)}
    source = resources.files("imprint.report").joinpath("comparison.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
