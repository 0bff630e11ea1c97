"""The report: one HTML file that opens offline, prints, and shows a stranger what a run did and whether it helped.

Everything is inlined (plotly once) and a content security policy forbids the browser to load anything. Users' words are
hostile input: the template escapes everything, and control characters are made visible.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from imprint.report import plots
from imprint.report.findings import Score, findings, headline, made_from, main_gains, own_best
from imprint.report.labels import ANSWERS, CHOICES, METHOD_ORDER, label
from imprint.report.tables import (
    comparison_table,
    config_in_words,
    finished_trials,
    method_table,
    metric_keys,
    ranked_trials,
)

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup
    from plotly.graph_objects import Figure

Record = Mapping[str, Any]

EXPECTED = ("base", "pooled", "fixed_memory", "memory")
"""Methods a reader would miss; the memories of other searches come with the scope."""

TOP_TRIALS = 5
EXAMPLES_A_SIDE = 3
LONGEST_TEXT = 600
"""Characters of a user's or a model's text on the page."""


@dataclass(frozen=True)
class Embedded:
    """A figure as HTML, and the finding that stands above it."""

    finding: str
    html: Markup


@dataclass(frozen=True)
class Example:
    """One query answered by every method. `gain` is ROUGE-1 of memory minus ROUGE-1 of `opponent`."""

    user_id: str
    query: str
    reference: str
    responses: dict[str, str]
    gain: float
    opponent: str


def render_report(
    metrics: Record,
    *,
    trials: Sequence[Record] = (),
    scores: Sequence[Score] = (),
    specificity: Record | None = None,
    examples: Sequence[Record] = (),
    partition: Record | None = None,
    validation: Record | None = None,
    ingest: Record | None = None,
    base: Record | None = None,
    run: Record | None = None,
    search: Record | None = None,
) -> str:
    """The whole page. What is empty or None is named as missing; `run` defaults to the conditions in `metrics`.

    `scores` are rows of (method, user_id, loss); `specificity` is `{"users", "loss"}` with loss[i][j] = loss of user
    i's rows under user j's memory. The same input gives the same bytes.
    """
    conditions = run if run is not None else metrics.get("run", {})
    keys = metric_keys(metrics)
    best, worst = chosen_examples(examples)
    ranked = ranked_trials(trials)
    return _template().render(
        css=page_css(),
        headline=headline(metrics, scores),
        findings=findings(metrics, specificity),
        missing=missing(metrics),
        dirty=conditions.get("code", {}).get("dirty"),
        rows=method_table(metrics),
        column_sets=[
            ("How well users are answered", [key for key in keys if key in ANSWERS]),
            ("Where the answer is one of a set", [key for key in keys if key in CHOICES]),
            ("Whose memory it is, and what it costs", [key for key in keys if key not in (*ANSWERS, *CHOICES)]),
        ],
        comparisons=comparison_table(metrics),
        definitions=metrics.get("definitions", {}),
        ingest=ingest,
        validation=validation,
        partition=partition,
        base=base,
        figures=_figures(trials, scores, specificity),
        trial_counts=_trial_counts(trials),
        top_trials=ranked[:TOP_TRIALS],
        strengths=any((trial["config"] or {}).get("strength", 1.0) != 1.0 for trial in trials),
        search=search,
        chosen=search["population"]["tpe"] if search else None,
        examples=[("Largest gains", best), ("Largest losses, or smallest gains", worst)],
        conditions=flattened(conditions),
        made_from=made_from(conditions),
    )


def missing(metrics: Record) -> list[str]:
    """What a reader would look for and not find, in sentences."""
    said = []
    absent = [name for name in EXPECTED if name not in metrics["methods"]]
    if absent:
        said.append(f"Not evaluated in this run: {', '.join(absent)}.")
    if not any({"rouge1", "invalid_rate"} & scores.keys() for scores in metrics["methods"].values()):
        said.append("No responses were generated, so ROUGE, BLEU and Persona-F1 are not measured.")
    if not metrics["comparisons"]:
        said.append("No methods were compared pair by pair, so no difference here is tested.")
    return said


def chosen_examples(examples: Sequence[Record], count: int = EXAMPLES_A_SIDE) -> tuple[list[Example], list[Example]]:
    """The examples with the largest and the smallest ROUGE-1 gain of memory over pooled (else base).

    By rule: at most `count` a side, at most one of a user a side, no example on both sides, ties by user and query.
    """
    scored = [example for example, _ in _by_gain(examples)]
    count = min(count, max(1, len(scored) // 2))
    best = _one_a_user(scored, count)
    worst = _one_a_user([one for one in reversed(scored) if one not in best], count)
    return best, worst


def telling_examples(examples: Sequence[Record], count: int = EXAMPLES_A_SIDE) -> list[Record]:
    """The few examples of a shard among which `chosen_examples` looks, so that the others need not be kept."""
    scored = _by_gain(examples)
    record_of = {id(example): record for example, record in scored}
    ranked = [example for example, _ in scored]
    ends = [*_one_a_user(ranked, 2 * count), *_one_a_user(ranked[::-1], 2 * count)]
    return [record_of[one] for one in dict.fromkeys(map(id, ends))]


def _by_gain(examples: Sequence[Record]) -> list[tuple[Example, Record]]:
    """What memory and its opponent (pooled, else base) both answered, with the record: largest gain first."""
    opponent = next((name for name in ("pooled", "base") if any(name in one["rouge1"] for one in examples)), None)
    if opponent is None:
        return []
    usable = [one for one in examples if "memory" in one["rouge1"] and opponent in one["rouge1"]]
    scored = [(_example(one, opponent), one) for one in usable]
    return sorted(scored, key=lambda pair: (-pair[0].gain, pair[0].user_id, pair[0].query))


def _example(record: Record, opponent: str) -> Example:
    responses = record["responses"]
    order = [name for name in METHOD_ORDER if name in responses]
    return Example(
        user_id=record["user_id"],
        query=record["query"],
        reference=record["reference"],
        responses={name: responses[name] for name in [*order, *(name for name in responses if name not in order)]},
        gain=record["rouge1"]["memory"] - record["rouge1"][opponent],
        opponent=opponent,
    )


def _one_a_user(examples: Sequence[Example], count: int) -> list[Example]:
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.user_id, example)
    return list(first.values())[:count]


def flattened(record: Record, prefix: str = "") -> list[tuple[str, str]]:
    """Nested conditions as (dotted key, text), in their order."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flattened(value, f"{name}.")
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, "not known" if value is None else str(value)))
    return rows


def _trial_counts(trials: Sequence[Record]) -> list[tuple[str, int, dict[str, int]]]:
    """(study, trials, trials by status) in order of the plots."""
    studies = [name for name in plots.STUDY_NAMES if any(trial["study"] == name for trial in trials)]
    counted = {name: Counter(trial["status"] for trial in trials if trial["study"] == name) for name in studies}
    return [(plots.STUDY_NAMES[name], sum(counts.values()), dict(counts)) for name, counts in counted.items()]


def _figures(trials: Sequence[Record], scores: Sequence[Score], specificity: Record | None) -> dict[str, Embedded]:
    """The figures that there are data for, by name, in page order; the first one carries plotly."""
    figures: dict[str, Figure] = {}
    if main_gains(scores)[1]:
        figures["gains"] = plots.gains(scores)
    if specificity is not None and own_best(specificity):
        figures["specificity"] = plots.specificity_heatmap(specificity)
    if trials:
        figures["convergence"] = plots.convergence(trials)
    if any(trial["trainable_parameters"] for trial in finished_trials(trials)):
        figures["pareto"] = plots.pareto(trials)
    return {
        name: embedded(name, figure, with_library=place == 0) for place, (name, figure) in enumerate(figures.items())
    }


def embedded(name: str, figure: Figure, with_library: bool) -> Embedded:
    """A figure for a page; one of a page's figures carries plotly itself."""
    from markupsafe import Markup
    from plotly.io import to_html

    finding = figure.layout.title.text.replace("<br>", " ")
    figure.update_layout(title=None, margin={"t": 36})  # the page sets the finding in its own type, above the figure
    html = to_html(
        figure,
        full_html=False,
        include_plotlyjs=with_library,
        div_id=f"figure-{name}",  # plotly's own is random, and equal runs should give equal pages
        default_height=f"{figure.layout.height}px",
        config={"displaylogo": False, "displayModeBar": False, "responsive": True},
    )
    return Embedded(finding, Markup(html))


def page_css() -> Markup:
    """The look that all of Imprint's pages share, for a style element."""
    from markupsafe import Markup

    return Markup(resources.files("imprint.data").joinpath("page.css").read_text(encoding="utf-8"))


def shown(text: object, limit: int = LONGEST_TEXT) -> str:
    """`text` shortened to `limit` characters, control and direction-changing characters made visible as one sign."""
    safe = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", "\ufffd", str(text))
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    # autoescape by name would miss ".html.j2"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "config_in_words": config_in_words,
        "label": label,
        "number": lambda value: f"{value:,}" if isinstance(value, int) else str(value),
        "shown": shown,
        "study": lambda name: plots.STUDY_NAMES.get(name, name),
    }
    source = resources.files("imprint.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
