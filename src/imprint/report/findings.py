"""What the numbers say, in sentences computed from them: the same code praises a memory and tells that it lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from imprint.evaluate.metrics import specificity as own_against_others
from imprint.report.labels import label
from imprint.report.tables import Verdict, higher_is_better, p_in_words, verdict

Score = tuple[str, str, float]
"""(method, user_id, loss of the user's test rows)."""


@dataclass(frozen=True)
class Headline:
    """One sentence and its tone: good (memory wins), bad (it loses), open (not decided, or not measured)."""

    text: str
    tone: Literal["good", "bad", "open"]


@dataclass(frozen=True)
class Gain:
    """Nats per token that a user's own memory saves: against the pooled model, and against the base model."""

    user_id: str
    pooled: float | None
    base: float | None


def gains_by_user(scores: Sequence[Score]) -> list[Gain]:
    """Users who have a loss for `memory` and for `pooled` or `base`, largest gain (against pooled if known) first."""
    losses: dict[str, dict[str, float]] = {}
    for method, user, loss in scores:
        losses.setdefault(user, {})[method] = loss
    found = [
        Gain(user, *(by[name] - by["memory"] if name in by else None for name in ("pooled", "base")))
        for user, by in losses.items()
        if "memory" in by and ("pooled" in by or "base" in by)
    ]
    return sorted(found, key=lambda gain: (-_first(gain), gain.user_id))


def _first(gain: Gain) -> float:
    return next(value for value in (gain.pooled, gain.base, -math.inf) if value is not None)


def main_gains(scores: Sequence[Score]) -> tuple[str, list[float]]:
    """The opponent ("pooled", or "base" where no user has a pooled loss) and every user's gain against it."""
    gains = gains_by_user(scores)
    pooled = [gain.pooled for gain in gains if gain.pooled is not None]
    if pooled:
        return "pooled", pooled
    return "base", [gain.base for gain in gains if gain.base is not None]


def own_best(matrix: Mapping[str, Any] | None) -> tuple[int, int, float] | None:
    """(users whose own memory is best, users, mean gap in nats) of a specificity matrix; None below two users."""
    if matrix is None or len(matrix["users"]) < 2:
        return None
    users = matrix["users"]
    found = own_against_others(
        {user: dict(zip(users, row, strict=True)) for user, row in zip(users, matrix["loss"], strict=True)}
    )
    gap = math.fsum(one.gap for one in found.values()) / len(found)
    return sum(one.own_best for one in found.values()), len(found), gap


def headline(metrics: Mapping[str, Any], scores: Sequence[Score]) -> Headline:
    """Memory against the pooled model (else the base model) in loss, true in both directions."""
    means = {method: found["loss"]["mean"] for method, found in metrics["methods"].items() if "loss" in found}
    if "memory" not in means:
        others = " and ".join(means) or "no method"
        return Headline(f"No memory was evaluated in this run: it has a loss for {others} only", "open")
    opponent = next((name for name in ("pooled", "base") if name in means), None)
    if opponent is None:
        return Headline(
            f"Memories reach a loss of {means['memory']:.3f} nats per response token; neither a base nor a pooled run "
            "was evaluated, so there is nothing to hold that against",
            "open",
        )
    found = memory_verdict(metrics, opponent, "loss")
    change = f"loss {means[opponent]:.3f} → {means['memory']:.3f} nats per response token{_who_gains(scores, opponent)}"
    if found == "better":
        return Headline(f"Users' own memories predict their words better than the {opponent} model: {change}", "good")
    if found == "worse":
        return Headline(f"Users' own memories predict their words worse than the {opponent} model: {change}", "bad")
    reason = "no paired comparison was made" if found is None else "the difference may be chance"
    return Headline(f"Users' own memories against the {opponent} model are undecided: {change}; {reason}", "open")


def _who_gains(scores: Sequence[Score], opponent: str) -> str:
    against, gains = main_gains(scores)
    if against != opponent or not gains:
        return ""
    return f", a gain for {sum(gain > 0 for gain in gains)} of {len(gains)} users"


def memory_verdict(metrics: Mapping[str, Any], opponent: str, metric: str) -> Verdict | None:
    """What the paired comparison of `memory` with `opponent` says about memory, whichever was named first."""
    row = _comparison(metrics, opponent, metric)
    return verdict(row, higher_is_better(metrics, metric)) if row else None


def _comparison(metrics: Mapping[str, Any], opponent: str, metric: str) -> dict[str, Any] | None:
    """The comparison as memory - opponent, turned round where the record has it the other way."""
    for row in metrics["comparisons"]:
        if row["metric"] == metric and {row["a"], row["b"]} == {"memory", opponent}:
            if row["a"] == "memory":
                return dict(row)
            return {**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    return None


def findings(metrics: Mapping[str, Any], specificity: Mapping[str, Any] | None = None) -> list[str]:
    """Sentences for the top of the page: memory against each method it was compared with, and whose memory is best."""
    opponents = dict.fromkeys(
        name for row in metrics["comparisons"] for name in (row["a"], row["b"]) if "memory" in (row["a"], row["b"])
    )
    said = [_against(metrics, name) for name in opponents if name != "memory"]
    whose = own_best(specificity)
    if whose:
        best, users, gap = whose
        said.append(
            f"For {best} of {users} users their own memory is the best of all {users}; another user's memory "
            f"{'costs' if gap >= 0 else 'saves'} {abs(gap):.3f} nats per token on average."
        )
    return said


def _against(metrics: Mapping[str, Any], opponent: str) -> str:
    by_verdict: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for metric in dict.fromkeys(row["metric"] for row in metrics["comparisons"]):
        found = memory_verdict(metrics, opponent, metric)
        if found:
            by_verdict[found].append(label(metric))
    verdicts = "; ".join(
        f"{'undecided' if name == 'undecided' else name} in {', '.join(names)}"
        for name, names in by_verdict.items()
        if names
    )
    loss = _comparison(metrics, opponent, "loss")
    numbers = (
        f" Loss changes by {loss['difference']:+.3f} nats per token "
        f"(95 % interval {loss['low']:+.3f} to {loss['high']:+.3f}, corrected p {_equals(p_in_words(loss['p_holm']))})."
        if loss
        else ""
    )
    return f"Memory against {opponent}: {verdicts}.{numbers}"


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def made_from(conditions: Mapping[str, Any]) -> str:
    """The data, seed, device and code of a run in one sentence; what its record lacks is said to be not known."""
    data, seed = conditions.get("fingerprints", {}).get("data"), conditions.get("seed")
    code = conditions.get("code", {})
    commit = f"commit {code['commit'][:12]}" if code.get("commit") else "code of a commit that is not known"
    changed = " with uncommitted changes" if code.get("dirty") else ""
    return (
        f"Made from data {data or 'not known'}, with seed {'not known' if seed is None else seed}, "
        f"on {_device_in_words(conditions.get('device', {}))}, by {commit}{changed}."
    )


def _device_in_words(device: Mapping[str, Any]) -> str:
    if not device:
        return "a device that is not known"
    cores = device.get("cores")
    counted = f"{cores} core{'' if cores == 1 else 's'} of " if cores else ""
    place = ", ".join(str(device[key]) for key in ("machine", "system") if device.get(key))
    accelerators = ", ".join(device.get("accelerators") or []) or "no accelerator"
    return f"{counted}{device.get('processor') or 'a processor without a name'} ({place}) with {accelerators}"
