"""What the page says of how the config was found."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from imprint.report.page import render_report

Make = Callable[..., dict[str, Any]]


def test_the_page_names_the_config_the_memories_have_and_a_better_one_that_was_not_used(evaluation: Make) -> None:
    given = evaluation({"base": 2.6, "pooled": 2.4, "memory": 1.9})
    config = {
        "ranks": [4],
        "targets": ["down"],
        "alpha_ratio": 2.0,
        "n_memories": 1,
        "learning_rate": 1e-3,
        "epochs": 2,
    }
    trial = {"status": "ok", "trainable_parameters": 10, "config": config, "seconds": 1.0, "error": None}
    tpe = {**trial, "study": "tpe", "tid": 3, "objective_value": 2.0}
    luckier = {**trial, "study": "random", "tid": 5, "objective_value": 1.5}

    def shown(trials: list[dict[str, Any]]) -> str:
        page = render_report(
            given["metrics"], trials=trials, search={"scope": "population", "population": {"tpe": tpe}}
        )
        return " ".join(page.split())

    unsure = {**trial, "study": "tpe", "tid": 4, "objective_value": 1.75}

    assert "The population's config is that of TPE's trial 3" in shown([tpe])
    assert "found a better one" not in shown([tpe])
    assert "less of it is sure" not in shown([tpe])
    assert "TPE's trial 4 came to 1.750 in the mean, but what pilots gained by it" in shown([tpe, unsure])
    assert "found a better one" not in shown([tpe, unsure])
    assert "Random search found a better one, its trial 5" in shown([tpe, luckier])


def test_sentences_that_follow_each_other_have_a_space_between_them(full: dict[str, Any], trial: Make) -> None:
    search = {"scope": "population", "population": {"tpe": trial("tpe", 0, 2.0)}}
    trials = [trial("tpe", 0, 2.0), trial("random", 0, 1.5)]
    page = render_report(**{**full, "trials": trials, "search": search})
    assert "found a better one" in page
    assert (
        re.findall(r"[a-z]\.[A-Z][a-z]+ ", page.partition("How the config was found")[2].partition("<script")[0]) == []
    )


@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_the_page_says_what_advantage_a_strength_is_on_the_rows_that_chose_it(
    full: dict[str, Any], trial: Make, strength
):
    one = trial("tpe", 0, 2.0)
    page = render_report(**{**full, "trials": [{**one, "config": {**one["config"], "strength": strength}}]})
    assert ("at the strength at which its memories did best" in page) == (strength != 1.0)


@pytest.mark.parametrize(
    ("own_strengths", "says"), [(0, "else."), (1, "else; 1 of those who stayed add their memory at another strength.")]
)
def test_the_page_counts_the_further_studies_and_what_they_found(
    full: dict[str, Any], trial: Make, own_strengths: int, says: str
) -> None:
    counted = {"studies": 3, "own_users": 2, "stayed": 1, "own_strengths": own_strengths}
    search = {"scope": "user", "population": {"tpe": trial("tpe", 0, 2.0)}, **counted}
    page = " ".join(render_report(**{**full, "trials": [trial("tpe", 0, 2.0)], "search": search}).split())
    assert (
        "In scope user, 3 further studies began at the population's surest points and chose a config for 2 users by "
        "their own validation rows; for 1 of them it is the population's, as for anybody " + says in page
    )
