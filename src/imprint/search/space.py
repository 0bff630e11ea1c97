"""The search space as hyperopt sees it: the only module that builds `hp` nodes, and the way back to our configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imprint.memory.config import MemoryConfig
from imprint.search.settings import SpaceSettings

Values = Mapping[str, list[Any]]
"""hyperopt's own encoding of a point: a list of one value a label; for all but the learning rate, a place in a list."""


def hyperopt_space(settings: SpaceSettings) -> dict[str, Any]:
    """One labelled `hp` node a dimension.

    What has an order (ranks, episodes, epochs, alpha_ratio) is searched as a place in its ordered list, so that TPE can
    learn "larger is better"; as unordered choices it needed more trials for the same result (docs/log.md). The first
    and the last place are rounded to from both sides, as the others: `hp.uniformint` would draw them half as often.
    """
    from math import log

    from hyperopt import hp

    low, high = settings.learning_rate
    ordered = {f"rank_{group}": settings.ranks for group in range(settings.layer_groups)} | {
        "alpha_ratio": settings.alpha_ratios,
        "n_memories": settings.n_memories,
        "epochs": settings.epochs,
    }
    return {
        **{
            label: hp.quniform(label, -0.5, len(values) - 0.5, 1)
            for label, values in ordered.items()
            if len(values) > 1
        },
        "targets": hp.choice("targets", list(range(len(settings.targets)))),
        "learning_rate": hp.loguniform("learning_rate", log(low), log(high)),
    }


def memory_config(values: Values, settings: SpaceSettings) -> MemoryConfig:
    """The memory config at a point. `MemoryConfigError` where the point is no valid config (all ranks 0)."""

    def chosen(label: str, among: tuple[Any, ...]) -> Any:
        # a dimension of one value is not searched and has no label
        return sorted(among)[int(values[label][0])] if label in values else among[0]

    return MemoryConfig(
        ranks=tuple(chosen(f"rank_{group}", settings.ranks) for group in range(settings.layer_groups)),
        targets=settings.targets[values["targets"][0]],
        alpha_ratio=chosen("alpha_ratio", settings.alpha_ratios),
        n_memories=chosen("n_memories", settings.n_memories),
        learning_rate=float(values["learning_rate"][0]),
        epochs=chosen("epochs", settings.epochs),
    )


def point_of(config: MemoryConfig, settings: SpaceSettings) -> dict[str, list[int | float]] | None:
    """The point at which `config` lies in the space, or None where it lies outside: the way back from `memory_config`.

    A config with fewer rank groups than the space is laid over the space's groups, where these divide evenly.
    """
    groups = settings.layer_groups
    ranks = [config.ranks[group * len(config.ranks) // groups] for group in range(groups)]
    low, high = settings.learning_rate
    wanted = {f"rank_{group}": (rank, settings.ranks) for group, rank in enumerate(ranks)} | {
        "alpha_ratio": (config.alpha_ratio, settings.alpha_ratios),
        "n_memories": (config.n_memories, settings.n_memories),
        "epochs": (config.epochs, settings.epochs),
    }
    inside = all(value in among for value, among in wanted.values()) and groups % len(config.ranks) == 0
    if not inside or config.targets not in settings.targets or not low <= config.learning_rate <= high:
        return None
    return {
        **{label: [sorted(among).index(value)] for label, (value, among) in wanted.items() if len(among) > 1},
        "targets": [settings.targets.index(config.targets)],
        "learning_rate": [config.learning_rate],
    }
