"""Sentences tell the truth in both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from imprint.report.findings import findings, gains_by_user, headline, made_from, main_gains, memory_verdict, own_best

Make = Callable[..., dict[str, Any]]


def test_the_headline_praises_a_memory_that_wins(evaluation: Make) -> None:
    """The numbers in it are the means of the record and a count of users."""
    made = evaluation({"base": 2.6, "pooled": 2.3, "memory": 1.9})
    found = headline(made["metrics"], made["scores"])
    means = {name: scores["loss"]["mean"] for name, scores in made["metrics"]["methods"].items()}
    assert found.tone == "good"
    assert "predict their words better than the pooled model" in found.text
    assert f"loss {means['pooled']:.3f} → {means['memory']:.3f}" in found.text
    assert found.text.endswith("a gain for 12 of 12 users")


def test_the_headline_says_when_memory_loses(evaluation: Make) -> None:
    """Nothing about the page is hard-coded praise."""
    made = evaluation({"base": 2.6, "pooled": 1.9, "memory": 2.3})
    found = headline(made["metrics"], made["scores"])
    assert found.tone == "bad"
    assert "predict their words worse than the pooled model" in found.text
    assert found.text.endswith("a gain for 0 of 12 users")


def test_the_headline_claims_nothing_that_may_be_chance(evaluation: Make) -> None:
    """A small difference is called undecided, and so is one that nobody tested."""
    made = evaluation({"pooled": 2.3, "memory": 2.3})
    assert headline(made["metrics"], made["scores"]).tone == "open"
    assert headline(made["metrics"], made["scores"]).text.endswith("the difference may be chance")
    untested = evaluation({"pooled": 2.3, "memory": 1.0}, compared=False)
    assert headline(untested["metrics"], untested["scores"]).text.endswith("no paired comparison was made")


def test_the_headline_falls_back_to_base_and_names_what_is_missing(evaluation: Make) -> None:
    """Without a pooled model the opponent is base; without either, or without memory, the headline says so."""
    made = evaluation({"base": 2.6, "memory": 1.9})
    assert "than the base model" in headline(made["metrics"], made["scores"]).text
    alone = evaluation({"memory": 1.9})
    assert "nothing to hold that against" in headline(alone["metrics"], alone["scores"]).text
    without = evaluation({"base": 2.6, "pooled": 2.3})
    assert headline(without["metrics"], without["scores"]).text.startswith("No memory was evaluated")
    assert headline({"methods": {}, "comparisons": []}, []).tone == "open"


@pytest.mark.parametrize(("centres", "expected"), [((2.3, 1.9), "better"), ((1.9, 2.3), "worse")])
def test_a_comparison_means_the_same_whichever_method_was_named_first(
    evaluation: Make, centres: tuple[float, float], expected: str
) -> None:
    """(pooled, memory) is turned round before it is judged."""
    metrics = evaluation(dict(zip(("pooled", "memory"), centres, strict=True)))["metrics"]
    assert memory_verdict(metrics, "pooled", "loss") == expected
    for row in metrics["comparisons"]:
        row.update(a="pooled", b="memory", difference=-row["difference"], low=-row["high"], high=-row["low"])
    assert memory_verdict(metrics, "pooled", "loss") == expected


def test_findings_name_every_opponent_with_verdicts_and_numbers(evaluation: Make, specificity: dict[str, Any]) -> None:
    """One sentence for each method that memory was compared with, and one about whose memory is best."""
    said = findings(evaluation()["metrics"], specificity)
    assert len(said) == 4
    assert said[0].startswith("Memory against base: better in loss, ROUGE-1, BLEU. Loss changes by -0.")
    assert said[-1].startswith(
        "For 11 of 12 users their own memory is the best of all 12; another user's memory costs 0."
    )


def test_gains_are_baseline_minus_memory_largest_first() -> None:
    """A user without a memory score, as one too sparse for a memory, is not counted as a gain or a loss."""
    scores = [
        ("memory", "a", 2.0),
        ("pooled", "a", 1.5),
        ("memory", "b", 1.0),
        ("pooled", "b", 1.75),
        ("base", "b", 2.0),
    ]
    found = gains_by_user([*scores, ("pooled", "c", 9.0)])
    assert [(gain.user_id, gain.pooled, gain.base) for gain in found] == [("b", 0.75, 1.0), ("a", -0.5, None)]
    assert main_gains(scores) == ("pooled", [0.75, -0.5])
    assert main_gains([("memory", "a", 2.0), ("base", "a", 3.0)]) == ("base", [1.0])
    assert main_gains([]) == ("base", [])


@pytest.mark.parametrize("matrix", [None, {"users": [], "loss": []}, {"users": ["a"], "loss": [[1.0]]}])
def test_whose_memory_is_best_is_not_asked_of_fewer_than_two_users(matrix: dict[str, Any] | None) -> None:
    """A run may try no strangers' memories at all."""
    assert own_best(matrix) is None


def test_a_run_says_from_what_and_on_what_it_was_made() -> None:
    """Data, seed, device and code, each named where it is known and said to be unknown where not."""
    device = {"machine": "arm64", "system": "Linux", "processor": "Invented 9", "cores": 1, "accelerators": ["A", "B"]}
    run = {"seed": 0, "fingerprints": {"data": "d" * 16}, "code": {"commit": "c" * 40, "dirty": True}, "device": device}
    assert made_from(run) == (
        "Made from data dddddddddddddddd, with seed 0, on 1 core of Invented 9 (arm64, Linux) with A, B, "
        "by commit cccccccccccc with uncommitted changes."
    )
    assert made_from({}) == (
        "Made from data not known, with seed not known, on a device that is not known, "
        "by code of a commit that is not known."
    )
    assert "3 cores of a processor without a name (, " not in made_from({"device": {"cores": 3, "system": "Linux"}})
    assert "with no accelerator" in made_from({"device": {**device, "accelerators": []}})
