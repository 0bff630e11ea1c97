"""Methods side by side at one budget: what each loses, by how much history a user has, and what each costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from imprint.base.histories import IndexRow
from imprint.data.tables import opened_fingerprint
from imprint.evaluate.definitions import DECIDING, METRICS
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.gathered import gathered
from imprint.evaluate.judges import named
from imprint.evaluate.per_user import PerUser, costs, merge, own_memory
from imprint.evaluate.settings import EvaluateSettings
from imprint.evaluate.statistics import best_against_others, best_of, bootstrap_interval, summarise
from imprint.personalizers.settings import CompareSettings
from imprint.provenance import fingerprint, run_conditions, seed_for
from imprint.tasks import TASKS

if TYPE_CHECKING:
    import pyarrow.dataset as pads

GROUPS = 3
"""Groups of users by how much history they have."""


class Training(NamedTuple):
    """What was trained for a method: tokens and seconds over all users, and seconds by user where each has weights.

    Seconds of the search for configs are apart: they are no part of the budget, by which `cut` users have fewer epochs
    than their config says.
    """

    tokens: int
    seconds: float
    search_seconds: float
    fingerprint: str
    per_user: Mapping[str, float] | None
    cut: int = 0


def trained(
    memories: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    own_trials: Iterable[Mapping[str, Any]],
    users: Collection[str],
) -> dict[str, Training]:
    """What each method's training was, from the records of the stages that trained; of memories those of `users`."""
    spent = {study: sum(one["seconds"] for one in trials if one["study"] == study) for study in ("tpe", "random")}
    searched = {
        "memory": spent["tpe"] + sum(one["seconds"] for one in own_trials),
        "population_memory": spent["tpe"],
        "random_memory": spent["random"],
    }
    found: dict[str, Training] = {}
    for name, one in memories.items():
        stores = one["stores"].values()
        seconds = {user_id: took for store in stores for user_id, took in store["seconds"].items() if user_id in users}
        made_of = fingerprint([store["fingerprint"] for store in stores])
        search = searched.get(name, 0.0)
        if name == "memory":  # the trainings of trials that became memories are among the memories' seconds
            taken = (user_id for store in stores for user_id in store.get("taken", ()))
            search -= sum(seconds.get(user_id, 0.0) for user_id in taken)
        found[name] = Training(one["tokens"], sum(seconds.values()), max(0.0, search), made_of, seconds, one["cut"])
    if "memory" in found:
        found["memory+retrieval"] = found["memory"]
    for name, record in shared.items():
        found[name] = Training(record["training_tokens"], record["seconds"], 0.0, record["fingerprint"], None)
    return found


def summarise_comparison(
    table: pads.Dataset,
    index: Sequence[IndexRow],
    scores: Sequence[Mapping[str, Any]],
    responses: Sequence[Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Any]],
    training: Mapping[str, Training],
    compare: CompareSettings,
    settings: EvaluateSettings,
    stands_on: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """`metrics.json` with more parts: `deciding`, the metric that says which method is best, `budget_tokens`, `costs`
    by method, `by_history`, `by_task`.

    `measured` is what `compared` found, by method; `stands_on` has the fingerprints of what the methods were made on:
    base and pooled model, and the search.
    """
    run = gathered(Everybody(table), index, scores, responses, settings, seed)
    histories, (found, counts) = run.histories, run.values()
    parts, without = [found], measured.get("pooled", {}).get("unrelated")
    for method, one in measured.items():
        seconds = dict.fromkeys(histories, one["seconds"]["fit"] / max(1, len(histories)))
        own = training[method].per_user if method in training else None
        if own is not None:
            seconds = {user_id: seconds[user_id] + own[user_id] for user_id in histories}
        parts.append(costs(method, list(histories), seconds, one["bytes"]))
        if "specificity" in one:
            parts.append(own_memory(method, {**one["specificity"], "without": without}))
    per_user: PerUser = merge(parts)
    fingerprints = {
        "data": opened_fingerprint(table),
        "measured": fingerprint([[row["method"], row["record_id"]] for row in scores]),
        **stands_on,
        **{method: one.fingerprint for method, one in training.items() if method in measured},
        "compare": fingerprint(compare),
        "evaluate": fingerprint(settings),
    }
    conditions = run_conditions(seed, **fingerprints)
    nobody = Training(0, 0.0, 0.0, "", None)
    if settings.judge is not None:
        conditions["judge"] = named(settings.judge)
    baselines = [method for method, metrics in found.items() if "loss" not in metrics]
    methods = {method: metrics for method, metrics in found.items() if method not in baselines}
    deciding = deciding_metric({row["task"] for row in scores}, methods)
    by_user = {method: metrics[deciding] for method, metrics in methods.items()}
    pairs = pairs_of(by_user, METRICS[deciding].higher_is_better is True, baselines)
    lengths = {user_id: len(rows) for user_id, rows in histories.items()}
    past = [lengths[user_id] for user_id, _ in {(row["user_id"], row["record_id"]) for row in scores}]
    return {
        **summarise(per_user, pairs, conditions, seed, settings.resamples, counts),
        "deciding": deciding,
        "budget_tokens": compare.budget_tokens,
        "costs": {
            method: cost_of(one, training.get(method, nobody), latents_of(method, compare, past))
            for method, one in measured.items()
        },
        "by_history": by_history(by_user, deciding, lengths, seed, settings.resamples),
        "by_task": run.by_task(seed, settings.resamples),
    }


def deciding_metric(tasks: Iterable[str], methods: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The metric of the tasks' kind where they are of one kind and every method has it, else the loss."""
    kinds = {TASKS[task].kind for task in tasks}
    metric = DECIDING[kinds.pop()] if len(kinds) == 1 else "loss"
    return metric if all(metric in metrics for metrics in methods.values()) else "loss"


def pairs_of(
    found: Mapping[str, Mapping[str, float]], higher_is_better: bool, baselines: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """All pairs of methods, the best by these values of users first, then `memory`; and each against the `baselines`.

    Baselines have no loss and are not compared with each other.
    """
    best = best_of(found, higher_is_better)
    ordered = [method for method in dict.fromkeys([best, "memory", *found]) if method in found]
    return [*combinations(ordered, 2), *((method, baseline) for method in ordered for baseline in baselines)]


def latents_of(method: str, compare: CompareSettings, past: Sequence[int]) -> float:
    """Latents that the model attends to for one query, beside its prompt: those of a User-LLM with cross-attention.

    `past` has the number of known interactions before each scored row: without a Perceiver each of them is one.
    """
    settings = compare.user_llm
    if method != "user_llm" or settings.contextualise != "cross_attention":
        return 0.0
    # a timeline without a Perceiver has a state for each event, and one for its start
    many = [settings.latents or 1 + min(known, settings.max_events) for known in past]
    return sum(many) / len(many)


def cost_of(measured: Mapping[str, Any], training: Training, latents: float) -> dict[str, float]:
    """What a method cost in this run: tokens and seconds of its own training, of its search, and of one query.

    `prompt_tokens` are what the model reads for a query, soft tokens included; `latents` what it attends to beside it.
    """
    return {
        "training_tokens": training.tokens,
        "training_seconds": training.seconds,
        "search_seconds": training.search_seconds,
        "cut_users": training.cut,
        "fit_seconds": measured["seconds"]["fit"],
        "seconds_per_scored_row": measured["seconds"]["score"] / max(1, measured["scored"]),
        "seconds_per_choice": measured["seconds"]["choose"] / measured["chosen"] if measured["chosen"] else 0.0,
        "prompt_tokens": measured["prompt_tokens"] / max(1, measured["scored"]),
        "latents": latents,
        "seconds_per_response": measured["seconds"]["respond"] / max(1, measured["answered"]),
    }


def by_history(
    found: Mapping[str, Mapping[str, float]], metric: str, lengths: Mapping[str, int], seed: int, resamples: int
) -> list[dict[str, Any]]:
    """Methods over users with a short, middle and long history: `{"from", "to", "users", "methods", "comparisons"}`.

    `found` are values of users in `metric` by method; `comparisons` hold the best of a group against each other one.
    Groups are thirds of the users by their training interactions; users of equal length are never parted.
    """
    rows = []
    for group in history_groups(lengths):
        first, last = lengths[group[0]], lengths[group[-1]]
        theirs = {method: {user_id: by_user[user_id] for user_id in group} for method, by_user in found.items()}
        methods = {
            method: asdict(
                bootstrap_interval(list(values.values()), seed_for(seed, "by history", method, first), resamples)
            )
            for method, values in theirs.items()
        }
        measured = {method: {metric: values} for method, values in theirs.items()}
        compared = best_against_others(measured, metric, seed, resamples, f"histories from {first}")
        rows.append({"from": first, "to": last, "users": len(group), "methods": methods, "comparisons": compared})
    return rows


def history_groups(lengths: Mapping[str, int], groups: int = GROUPS) -> list[list[str]]:
    """Users in at most `groups` groups of about the same number, shortest histories first."""
    ordered = sorted(lengths, key=lambda user_id: (lengths[user_id], user_id))
    cut: list[list[str]] = [[] for _ in range(groups)]
    first: dict[int, int] = {}
    for place, user_id in enumerate(ordered):
        group = first.setdefault(lengths[user_id], place * groups // len(ordered))
        cut[group].append(user_id)
    return [group for group in cut if group]
