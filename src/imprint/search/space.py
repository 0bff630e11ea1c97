"""The search space as hyperopt sees it: the only module that builds `hp` nodes, and the only way back to our configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imprint.memory.config import MemoryConfig
from imprint.search.settings import SpaceSettings

Values = Mapping[str, list[Any]]
"""hyperopt's own encoding of a point: a list of one value a label, an index where the label is a choice."""


def hyperopt_space(settings: SpaceSettings) -> dict[str, Any]:
    """One labelled `hp` node a dimension."""
    from math import log

    from hyperopt import hp

    low, high = settings.learning_rate
    ranks = {
        f"rank_{group}": hp.choice(f"rank_{group}", list(settings.ranks)) for group in range(settings.layer_groups)
    }
    return {
        **ranks,
        "targets": hp.choice("targets", list(range(len(settings.targets)))),
        "alpha_ratio": hp.choice("alpha_ratio", list(settings.alpha_ratios)),
        "n_memories": hp.choice("n_memories", list(settings.n_memories)),
        "learning_rate": hp.loguniform("learning_rate", log(low), log(high)),
        "epochs": hp.choice("epochs", list(settings.epochs)),
    }


def memory_config(values: Values, settings: SpaceSettings) -> MemoryConfig:
    """The memory config at a point. `MemoryConfigError` where the point is no valid config (all ranks 0)."""
    return MemoryConfig(
        ranks=tuple(settings.ranks[values[f"rank_{group}"][0]] for group in range(settings.layer_groups)),
        targets=settings.targets[values["targets"][0]],
        alpha_ratio=settings.alpha_ratios[values["alpha_ratio"][0]],
        n_memories=settings.n_memories[values["n_memories"][0]],
        learning_rate=float(values["learning_rate"][0]),
        epochs=settings.epochs[values["epochs"][0]],
    )
