"""The report's figures, as plotly figures: the page embeds them, the pipeline also saves them as JSON.

Each title states what the data show, in either direction. Backgrounds are transparent, so that a light and a dark page
both carry them. Text that came from outside is escaped, because plotly reads a little HTML in labels.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from imprint.report.findings import Score, gains_by_user, main_gains, own_best
from imprint.report.tables import config_in_words, finished_trials, ranked_trials

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Trials = Sequence[Mapping[str, Any]]

COLOURS = {"base": "#9aa0a6", "pooled": "#d9a441", "fixed_memory": "#6f8fbf", "memory": "#1f6f5c"}
STUDY_COLOURS = {"tpe": COLOURS["memory"], "random": COLOURS["pooled"], "fixed": COLOURS["fixed_memory"]}
STUDY_NAMES = {"tpe": "TPE", "random": "random search", "fixed": "fixed config"}
LOSS_COLOUR = "#b4552d"
INK = "#6b7177"
"""Readable on white and on near-black."""
RULE = "rgba(128,128,128,0.25)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
NEARLY = 0.01
"""A config is nearly as good as the best within this share of its objective."""
MAX_BARS = 200
MAX_LABELS = 24


def figure_of(title: str, x: str, y: str, height: int = 380) -> Figure:
    """An empty figure in the look of all our figures."""
    import plotly.graph_objects as go

    axis = {"gridcolor": RULE, "zerolinecolor": RULE, "automargin": True, "ticks": "outside", "tickcolor": RULE}
    return go.Figure(
        layout={
            "template": "none",
            "title": {"text": "<br>".join(textwrap.wrap(title, 90)), "x": 0, "xref": "paper", "font": {"size": 15}},
            "font": {"family": FONT, "size": 12, "color": INK},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "height": height,
            "margin": {"l": 70, "r": 20, "t": 60, "b": 60},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
            "xaxis": {**axis, "title": {"text": x}},
            "yaxis": {**axis, "title": {"text": y}},
        }
    )


def convergence(trials: Trials) -> Figure:
    """Best-so-far of TPE and random search; trials are dots, the fixed config a line, failures lie at the bottom."""
    figure = figure_of(_convergence_title(trials), "trials of the study so far", "validation loss, nats per token")
    values = [trial["objective_value"] for trial in finished_trials(trials)]
    floor = min(values) - 0.08 * ((max(values) - min(values)) or 1) if values else 0.0
    for study in ("random", "tpe"):
        _add_search(figure, [trial for trial in trials if trial["study"] == study], study, floor)
    fixed = ranked_trials([trial for trial in trials if trial["study"] == "fixed"])
    if fixed:
        figure.add_hline(y=fixed[0]["objective_value"], line={"color": STUDY_COLOURS["fixed"], "dash": "dash"})
        figure.add_scatter(
            x=[1],
            y=[fixed[0]["objective_value"]],
            mode="lines",
            name=STUDY_NAMES["fixed"],
            line={"color": STUDY_COLOURS["fixed"], "dash": "dash"},
        )
    return figure


def _add_search(figure: Figure, trials: Trials, study: str, floor: float) -> None:
    """Dots, best-so-far and failures of one study. `floor` is where failures are drawn: just below every value."""
    ordered = list(enumerate(sorted(trials, key=lambda trial: trial["tid"]), start=1))
    done = [(place, trial) for place, trial in ordered if finished_trials([trial])]
    lost = [(place, trial) for place, trial in ordered if not finished_trials([trial])]
    colour, name = STUDY_COLOURS[study], STUDY_NAMES[study]
    if done:
        places = [place for place, _ in done]
        values = [trial["objective_value"] for _, trial in done]
        figure.add_scatter(
            x=places,
            y=values,
            mode="markers",
            name=f"{name}, each trial",
            showlegend=False,
            marker={"color": colour, "size": 7, "opacity": 0.55},
            hovertext=[_about(trial) for _, trial in done],
            hoverinfo="text",
        )
        figure.add_scatter(
            x=places,
            y=list(accumulate(values, min)),
            mode="lines",
            name=f"{name}, best so far",
            line={"color": colour, "width": 2.5, "shape": "hv"},
            hoverinfo="skip",
        )
    if lost:
        figure.add_scatter(
            x=[place for place, _ in lost],
            y=[floor] * len(lost),
            mode="markers",
            name=f"{name}, failed or refused",
            marker={"color": colour, "symbol": "x", "size": 8},
            hovertext=[_about(trial) for _, trial in lost],
            hoverinfo="text",
        )


def _about(trial: Mapping[str, Any]) -> str:
    value = trial["objective_value"]
    outcome = f"{value:.3f} nats per token" if value is not None else str(trial.get("error") or "no reason recorded")
    lines = [
        f"{STUDY_NAMES.get(trial['study'], trial['study'])}, trial {trial['tid']}: {trial['status']}",
        *textwrap.wrap(config_in_words(trial["config"]), 70),
        *textwrap.wrap(outcome, 70)[:4],
    ]
    return "<br>".join(escape(line) for line in lines)


def _convergence_title(trials: Trials) -> str:
    if not trials:
        return "No trials were recorded"
    best = {study: _best_value(trials, study) for study in STUDY_NAMES}
    reached = {study: value for study, value in best.items() if value is not None}
    if not reached:
        return f"None of the {len(trials)} trials finished"
    said = [f"{STUDY_NAMES[study]} reached {value:.3f}" for study, value in sorted(reached.items(), key=lambda s: s[1])]
    order = ", ".join(said) + " nats per token"
    if len(reached) < 2:
        return order + "; there is nothing to compare it with"
    return order


def _best_value(trials: Trials, study: str) -> float | None:
    ranked = ranked_trials([trial for trial in trials if trial["study"] == study])
    return ranked[0]["objective_value"] if ranked else None


def gains(scores: Sequence[Score]) -> Figure:
    """Each user's loss under pooled (else base) minus the loss under the own memory, sorted; dots against base."""
    found = gains_by_user(scores)
    opponent, values = main_gains(scores)
    figure = figure_of(_gains_title(opponent, values), "", f"nats per token saved against {opponent}")
    shown = [gain for gain in found if getattr(gain, opponent) is not None]
    if len(shown) > MAX_BARS:  # a million bars say no more than two hundred quantiles
        shown = [shown[place * (len(shown) - 1) // (MAX_BARS - 1)] for place in range(MAX_BARS)]
    heights = [getattr(gain, opponent) for gain in shown]
    users = [escape(gain.user_id) for gain in shown]
    figure.add_bar(
        x=list(range(1, len(shown) + 1)),
        y=heights,
        name=f"against {opponent}",
        marker={"color": [COLOURS["memory"] if height > 0 else LOSS_COLOUR for height in heights]},
        hovertext=users,
    )
    if opponent == "pooled" and any(gain.base is not None for gain in shown):
        figure.add_scatter(
            x=list(range(1, len(shown) + 1)),
            y=[gain.base for gain in shown],
            mode="markers",
            name="against base",
            marker={"color": COLOURS["base"], "size": 6},
            hovertext=users,
        )
    evenly = f" ({MAX_BARS} of {len(values)}, evenly spaced by gain)" if len(values) > MAX_BARS else ""
    figure.update_xaxes(
        title={"text": f"users, largest gain first{evenly}"}, range=[0.4, len(shown) + 0.6], showgrid=False
    )
    return figure


def _gains_title(opponent: str, values: Sequence[float]) -> str:
    if not values:
        return "No user has a loss under both a memory and a baseline"
    gain = sum(value > 0 for value in values)
    return (
        f"{gain} of {len(values)} users ({100 * gain / len(values):.0f} %) gain from their own memory over {opponent}"
    )


def specificity_heatmap(specificity: Mapping[str, Any]) -> Figure:
    """Rows: whose words; columns: whose memory; colour: loss minus the row's loss under its own memory (diagonal 0)."""
    users, losses = specificity["users"], specificity["loss"]
    size = len(users)
    figure = figure_of(_specificity_title(specificity), "whose memory", "whose words", height=min(760, 240 + 16 * size))
    extra = [[loss - row[place] for loss in row] for place, row in enumerate(losses)]
    largest = max((abs(value) for row in extra for value in row), default=0.0) or 1.0
    figure.add_heatmap(
        z=extra,
        x=list(range(size)),
        y=list(range(size)),
        zmin=-largest,
        zmax=largest,
        colorscale=[[0, LOSS_COLOUR], [0.5, "#f4f3ee"], [1, COLOURS["memory"]]],
        customdata=[[[escape(mine), escape(other)] for other in users] for mine in users],
        hovertemplate="words of %{customdata[0]}<br>memory of %{customdata[1]}<br>%{z:+.3f} nats<extra></extra>",
        colorbar={"title": {"text": "nats per token<br>above own memory"}, "thickness": 12, "outlinewidth": 0},
    )
    ticks: dict[str, Any] = {"showgrid": False, "zeroline": False}
    if size <= MAX_LABELS:
        ticks |= {"tickvals": list(range(size)), "ticktext": [escape(user[:7]) for user in users]}
    else:
        ticks |= {"showticklabels": False, "ticks": ""}
    figure.update_xaxes(**ticks)
    figure.update_yaxes(**ticks, autorange="reversed")  # first user on top: the diagonal falls, as in a matrix
    return figure


def _specificity_title(specificity: Mapping[str, Any]) -> str:
    found = own_best(specificity)
    if not found:
        return "Fewer than two users: nobody else's memory to compare with"
    best, users, gap = found
    words = f"costs {gap:.3f}" if gap >= 0 else f"saves {-gap:.3f}"
    return f"Own memory is best for {best} of {users} users; another's {words} nats per token on average"


def pareto(trials: Trials) -> Figure:
    """Validation loss against trainable parameters of every finished trial, and the front that nothing beats."""
    sized = [trial for trial in finished_trials(trials) if trial["trainable_parameters"]]
    front = pareto_front(sized)
    figure = figure_of(_pareto_title(front), "trainable parameters of one memory", "validation loss, nats per token")
    if front:
        figure.add_scatter(
            x=[trial["trainable_parameters"] for trial in front],
            y=[trial["objective_value"] for trial in front],
            mode="lines",
            name="front",
            line={"color": INK, "shape": "hv", "width": 1.5},
            hoverinfo="skip",
        )
    for study, name in STUDY_NAMES.items():
        mine = [trial for trial in sized if trial["study"] == study]
        if mine:
            figure.add_scatter(
                x=[trial["trainable_parameters"] for trial in mine],
                y=[trial["objective_value"] for trial in mine],
                mode="markers",
                name=name,
                marker={"color": STUDY_COLOURS[study], "size": 8},
                hovertext=[_about(trial) for trial in mine],
                hoverinfo="text",
            )
    ticks = _log_ticks([trial["trainable_parameters"] for trial in sized])
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    return figure


def _log_ticks(sizes: Sequence[int]) -> list[int]:
    """Round numbers around `sizes`: 1, 2 and 5 times powers of ten within two decades, else powers of ten."""
    low, high = min(sizes, default=1), max(sizes, default=1)
    steps = (1, 2, 5) if high < 100 * low else (1,)
    powers = range(int(math.log10(low)), int(math.log10(high)) + 2)
    return [step * 10**power for power in powers for step in steps]


def pareto_front(trials: Trials) -> list[Mapping[str, Any]]:
    """Trials that no other equals or beats in both size and objective, smallest first."""
    front: list[Mapping[str, Any]] = []
    for trial in sorted(trials, key=lambda trial: (trial["trainable_parameters"], trial["objective_value"])):
        if not front or trial["objective_value"] < front[-1]["objective_value"]:
            front.append(trial)
    return front


def _pareto_title(front: Trials) -> str:
    if not front:
        return "No finished trial has a size and an objective"
    best = front[-1]
    small = next(t for t in front if t["objective_value"] <= best["objective_value"] * (1 + NEARLY))
    said = f"The best config trains {best['trainable_parameters']:,} parameters"
    if small is best:
        return f"{said}; none smaller comes within {NEARLY:.0%} of its loss"
    return f"{said}; {small['trainable_parameters']:,} come within {NEARLY:.0%} of its loss"
