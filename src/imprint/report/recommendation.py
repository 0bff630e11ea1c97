"""Which method to use, in words: what the record of a comparison says of its methods, by the metric that decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imprint.report.labels import CHOSEN_BY_KIND, format_value, label
from imprint.report.tables import Verdict, higher_is_better, ordered_methods, verdict

Record = Mapping[str, Any]


def with_loss(metrics: Record) -> list[str]:
    """Methods in the page's order, without the baselines, which have no loss and cost nothing."""
    return [name for name in ordered_methods(metrics) if "loss" in metrics["methods"][name]]


def best_method(metrics: Record) -> str:
    """The method with the best mean of the deciding metric; of equal ones the first in the page's order."""
    return _best(means_of(metrics), metrics)


def _best(means: Mapping[str, float], metrics: Record, key: str | None = None) -> str:
    choose = max if higher_is_better(metrics, key or metrics["deciding"]) else min
    return choose(means, key=lambda name: means[name])


def all_the_same(means: Mapping[str, float]) -> bool:
    """Whether several methods have one and the same mean, so that none of them is best."""
    return len(means) > 1 and len(set(means.values())) == 1


def means_of(metrics: Record) -> dict[str, float]:
    """The mean of each method with a model in the deciding metric."""
    return {name: metrics["methods"][name][metrics["deciding"]]["mean"] for name in with_loss(metrics)}


def not_worse(metrics: Record, best: str) -> list[str]:
    """Methods that the paired comparison in the deciding metric does not tell from `best`."""
    others = (name for name in with_loss(metrics) if name != best)
    return [name for name in others if against(metrics, best, name) != "better"]


def against(metrics: Record, method: str, other: str) -> Verdict | None:
    """What the paired comparison in the deciding metric says about `method`; None where the two were not compared."""
    return _against(metrics["comparisons"], metrics, metrics["deciding"], method, other)


def _against(rows: Sequence[Record], metrics: Record, key: str, method: str, other: str) -> Verdict | None:
    for row in rows:
        if row["metric"] == key and {row["a"], row["b"]} == {method, other}:
            found = verdict(row, higher_is_better(metrics, key))
            if row["a"] == method or found == "undecided":
                return found
            return "worse" if found == "better" else "better"
    return None


def _best_of_part(part: Record, metrics: Record, key: str, means: Mapping[str, float]) -> str:
    """Which method is best for some users or rows, and which others the comparison does not tell from it there."""
    if all_the_same(means):
        return f"no method differs in {label(key)}, all have {format_value(key, next(iter(means.values())))}."
    best = _best(means, metrics, key)
    others = (name for name in means if name != best)
    equal = [name for name in others if _against(part["comparisons"], metrics, key, best, name) != "better"]
    said = f"{best} has the best {label(key)}, {format_value(key, means[best])}"
    if not equal:
        return f"{said}." if len(means) == 1 else f"{said}, better than that of every other method."
    if len(equal) == len(means) - 1:
        return f"{said}, but is told from no other method."
    return f"{said}, but {_and(equal)} may be as good."


def headline(metrics: Record) -> str:
    """Which method to use, in one sentence."""
    best, key, means = best_method(metrics), metrics["deciding"], means_of(metrics)
    name, value = label(key), _with_unit(metrics, means[best])
    if all_the_same(means):
        return f"No method differs in {name}: all have {value}"
    if len(means) == 1:
        return f"Only {best} was measured: its {name} is {value}"
    equal, unbeaten = not_worse(metrics, best), _unbeaten_baselines(metrics, best)
    most = "highest" if higher_is_better(metrics, key) else "lowest"
    if equal:
        return f"{best} has the {most} {name}, {value}, but {_and(equal)} may be as good"
    if unbeaten:
        return (
            f"{best} has the {most} {name} of all models, {value}, but is not better than {_and(unbeaten)} without one"
        )
    beyond = "higher" if higher_is_better(metrics, key) else "lower"
    return f"Use {best}: its {name} of {value} is {beyond} than that of every other method"


def answers(metrics: Record) -> list[str]:
    """Further sentences: the cheapest of equally good methods, which method for which history, and who is no use."""
    best, key = best_method(metrics), metrics["deciding"]
    equal = [best, *not_worse(metrics, best)]
    costs = ("bytes_per_user", "seconds_per_user")
    cheapest = min(equal, key=lambda name: [cost_per_user(metrics, name, cost) for cost in costs])
    said = [f"{best} costs {_costs_in_words(metrics, best)}."]
    if cheapest != best:
        said.append(
            f"Of the methods that may be as good, {cheapest} is the cheapest: {_costs_in_words(metrics, cheapest)}."
        )
    said += [
        f"{name}, which uses no model, has {label(key)} {format_value(key, metrics['methods'][name][key]['mean'])}; "
        f"{best} is not better."
        for name in _unbeaten_baselines(metrics, best)
    ]
    cut = {name: cost["cut_users"] for name, cost in metrics["costs"].items() if cost["cut_users"]}
    said += [
        f"The budget of {metrics['budget_tokens']:,} tokens let {name} go over the rows of {users} users less often "
        "than their configs say."
        for name, users in cut.items()
    ]
    for group in metrics["by_history"]:
        means = {name: one["mean"] for name, one in group["methods"].items()}
        said.append(f"{_users_in_words(group)}: {_best_of_part(group, metrics, key, means)}")
    said += [sentence for task in metrics["by_task"] if (sentence := _best_at(metrics, task))]
    useless = [name for name in with_loss(metrics) if against(metrics, name, "pooled") == "worse" and name != "base"]
    if useless:
        verb = "is" if len(useless) == 1 else "are"
        said.append(f"On this corpus {_and(useless)} {verb} worse than the pooled model, which knows nobody.")
    return said


def _unbeaten_baselines(metrics: Record, best: str) -> list[str]:
    """The baselines that the best method is not better than."""
    baselines = (name for name in ordered_methods(metrics) if name not in with_loss(metrics))
    measured = (name for name in baselines if metrics["deciding"] in metrics["methods"][name])
    return [name for name in measured if against(metrics, best, name) != "better"]


def _best_at(metrics: Record, task: Record) -> str | None:
    """Which method is best at a task, in the metric of its kind; None where that was not measured, or is the page's."""
    key = CHOSEN_BY_KIND[task["kind"]][0]
    found = {name: one[key]["mean"] for name, one in task["methods"].items() if key in one}
    if not found or (key == metrics["deciding"] and len(metrics["by_task"]) == 1):
        return None
    return f"Task {task['task']}: {_best_of_part(task, metrics, key, found)}"


def unit_of(metrics: Record) -> str:
    """The unit of the deciding metric; none for a share of 0 to 1."""
    unit: str = metrics["definitions"][metrics["deciding"]]["unit"]
    return "" if unit.startswith("0 to") else unit


def _with_unit(metrics: Record, value: float) -> str:
    return f"{format_value(metrics['deciding'], value)} {unit_of(metrics)}".strip()


def cost_per_user(metrics: Record, name: str, metric: str) -> float:
    """Mean over users of what a method costs in `metric`."""
    found: float = metrics["methods"][name][metric]["mean"]
    return found


def _costs_in_words(metrics: Record, name: str) -> str:
    cost = metrics["costs"][name]
    seconds = format_value("seconds_per_user", cost_per_user(metrics, name, "seconds_per_user"))
    size = format_value("bytes_per_user", cost_per_user(metrics, name, "bytes_per_user"))
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
