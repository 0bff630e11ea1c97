"""An invented evaluation of a few users, in the plain values that the report takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from imprint.evaluate.statistics import summarise

USERS = [f"u{number:016x}" for number in range(0xA0, 0xA0 + 12)]
CENTRES = {"base": 2.6, "pooled": 2.3, "fixed_memory": 2.0, "memory": 1.9}


def _losses(centres: dict[str, float]) -> dict[str, dict[str, float]]:
    """Losses by method and user: users differ much, methods by their centre, and a little by chance."""
    draw = random.Random(4)
    level = {user: draw.gauss(0, 0.3) for user in USERS}
    return {
        method: {user: round(centre + level[user] + draw.gauss(0, 0.08), 4) for user in USERS}
        for method, centre in centres.items()
    }


def _evaluation(centres: dict[str, float] = CENTRES, generated: bool = True, compared: bool = True) -> dict[str, Any]:
    """`metrics` and `scores` of one evaluation with those mean losses; memory is compared with every other method."""
    found = _losses(centres)
    per_user: dict[str, dict[str, dict[str, float]]] = {}
    for method, by_user in found.items():
        per_user[method] = {"loss": by_user}
        if generated:
            per_user[method]["rouge1"] = {user: max(0.0, 0.9 - loss / 4) for user, loss in by_user.items()}
            per_user[method]["bleu"] = {user: max(0.0, 30 - 9 * loss) for user, loss in by_user.items()}
    if "memory" in per_user:
        per_user["memory"]["own_best_share"] = {user: float(user != USERS[0]) for user in USERS}
        per_user["memory"]["bytes_per_user"] = dict.fromkeys(USERS, 412_000.0)
        per_user["memory"]["seconds_per_user"] = dict.fromkeys(USERS, 3.1)
    pairs = [("memory", method) for method in centres if method != "memory"] if compared else []
    run = {
        "seed": 7,
        "fingerprints": {"data": "0123456789abcdef", "base": "fedcba9876543210"},
        "code": {"commit": "0" * 40, "dirty": False},
        "versions": {"python": "3.11.9", "torch": "2.9.0"},
        "device": {
            "machine": "x86_64",
            "system": "Linux",
            "processor": "Invented 9",
            "cores": 2,
            "accelerators": [],
        },
    }
    return {
        "metrics": summarise(per_user, pairs, run, seed=7),
        "scores": [(method, user, loss) for method, by_user in found.items() for user, loss in by_user.items()],
    }


def _trial(study: str, tid: int, value: float | None, parameters: int | None = 9000, **changes: Any) -> dict[str, Any]:
    """One trial; without a value it failed."""
    config = {
        "ranks": [0, 0, 8, 8],
        "targets": ["up", "down"],
        "alpha_ratio": 2.0,
        "n_memories": 2,
        "learning_rate": 0.002,
        "epochs": 3,
    }
    return {
        "study": study,
        "tid": tid,
        "status": "ok" if value is not None else "failed",
        "objective_value": value,
        "trainable_parameters": parameters,
        "config": config,
        "seconds": 1.5,
        "error": None if value is not None else "the loss was not finite",
        **changes,
    }


@pytest.fixture
def evaluation() -> Callable[..., dict[str, Any]]:
    """Makes `metrics` and `scores` from mean losses by method."""
    return _evaluation


@pytest.fixture
def trial() -> Callable[..., dict[str, Any]]:
    """Makes one trial."""
    return _trial


@pytest.fixture
def trials() -> list[dict[str, Any]]:
    """TPE ends best; one of its trials failed and one was refused; random search and a fixed config beside it."""
    tpe = [2.4, 2.3, None, 2.1, 2.2, 1.95, 1.97, 1.9]
    found = [_trial("tpe", tid, value, 4000 * (tid + 1)) for tid, value in enumerate(tpe)]
    refused = _trial("tpe", 8, None, None, status="refused", error="ranks: (0, 0) gives no layer a memory")
    found.append({**refused, "config": None})  # as a search writes it
    found += [_trial("random", tid, 2.5 - 0.06 * tid, 2500 * (tid + 1)) for tid in range(8)]
    return [*found, _trial("fixed", 0, 2.15, 16000)]


@pytest.fixture
def specificity() -> dict[str, Any]:
    """Own memory 0.4 better than others', but for the first user, whom the second user's memory serves better."""
    draw = random.Random(2)
    loss = [[(1.9 if i == j else 2.3) + draw.gauss(0, 0.05) for j in range(12)] for i in range(12)]
    loss[0][1] = 1.5
    return {"users": USERS, "loss": loss}


@pytest.fixture
def examples() -> list[dict[str, Any]]:
    """Two queries a user; the gain of memory over pooled falls from user to user, from +0.6 to below 0."""
    return [
        {
            "user_id": user,
            "query": f"what did you cook on day {turn}?",
            "reference": f"well hello, lentil stew number {place} again :)",
            "responses": {
                "base": "i do not know what to say",
                "pooled": "hello, some soup i think",
                "memory": f"well hello, lentil stew number {place} :)",
            },
            "rouge1": {"base": 0.05, "pooled": 0.2, "memory": 0.8 - 0.07 * place - 0.01 * turn},
        }
        for place, user in enumerate(USERS)
        for turn in range(2)
    ]


@pytest.fixture
def data_reports() -> dict[str, Any]:
    """What ingest, validation and partition hand over."""
    return {
        "ingest": {
            "corpus": "kitchen-talk",
            "rows_read": 5000,
            "rows_written": 5000,
            "unreadable": 3,
            "without_user": 7,
            "users": 60,
            "masked_mentions": 41,
            "kinds": {"messages": 5000},
        },
        "validation": {
            "suite": "interactions",
            "rows_in": 5000,
            "rows_out": 4988,
            "rows_quarantined": 12,
            "checks": [
                {"check": "not_null(user_id)", "description": "Every row has a user.", "checked": 5000, "failed": 7},
                {"check": "unique(record_id)", "description": "No row is there twice.", "checked": 5000, "failed": 0},
            ],
        },
        "partition": {
            "users": {"background": 40, "pilot": 8, "reported": 12},
            "rows": {"reported": {"train": 1700, "validation": 340, "test": 348}},
        },
        "base": {"family": "llama", "parameters": 5_800_000, "fingerprint": "fedcba9876543210", "settings": {"x": 1}},
    }


@pytest.fixture
def full(
    evaluation: Callable[..., dict[str, Any]],
    trials: list[dict[str, Any]],
    specificity: dict[str, Any],
    examples: list[dict[str, Any]],
    data_reports: dict[str, Any],
) -> dict[str, Any]:
    """Every input of the page."""
    return {**evaluation(), "trials": trials, "specificity": specificity, "examples": examples, **data_reports}
