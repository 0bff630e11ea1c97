"""Unlike jobs for a fleet, and when two memories are the same: to a relative 1e-4 in every factor, but one element."""

from contextlib import contextmanager

import torch
from families import Shape, config_of, model_of
from toys import invented_rows

from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet, Job
from imprint.memory.settings import FleetSettings

SEED, BATCH_ROWS, CLOSE = 7, 4, 1e-4


def config(ranks, targets, alpha_ratio, n_memories, learning_rate, epochs):
    return MemoryConfig(
        ranks=ranks,
        targets=targets,
        alpha_ratio=alpha_ratio,
        n_memories=n_memories,
        learning_rate=learning_rate,
        epochs=epochs,
    )


HIGH = config((0, 0, 4), ("down",), 1.0, 1, 2e-2, 2)
MIXED = [
    # user, rows of history, config
    ("u1", 17, config((0, 2, 4), ("gate", "up", "down"), 2.0, 1, 1e-2, 3)),
    ("u2", 21, config((1,), ("down",), 4.0, 2, 3e-3, 2)),
    ("u3", 9, config((4, 0, 1), ("up", "down"), 1.0, 3, 5e-3, 2)),
    ("u4", 1, config((0, 8), ("up",), 0.5, 1, 2e-2, 4)),
    ("u5", 6, config((2,), ("up", "query", "key", "value", "output"), 2.0, 1, 1e-2, 2)),
    ("u1", 17, HIGH),  # the same user in another config
    ("u6", 12, config((0, 0, 2), ("up", "down"), 8.0, 2, 1e-3, 1)),
]

WINDOWED = {
    "mistral": {"sliding_window": 5},
    "qwen2": {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
}


def windowed_model(family, vocabulary, layers=2):
    """A small model of a family, with a sliding window where the family has one."""
    shape = Shape(layers=layers)
    return model_of(config_of(family, vocabulary, shape, loudness=0.1, **WINDOWED.get(family, {})), seed=1)


def job(base, user_id, rows, its_config, validation=()):
    return Job(user_id, base.encoder.examples(invented_rows(user_id, rows)), its_config, validation)


@contextmanager
def threads(count):
    """Within the block torch has this many threads: as many lanes as a fleet has on a CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fleet(base, slots=3, crew=4, cache_mib=64, early_stopping=None):
    return Fleet(base, FleetSettings(slots=slots, crew=crew, cache_mib=cache_mib), SEED, BATCH_ROWS, early_stopping)


def factors_of(trained):
    """Every factor by episode, site and name."""
    return {
        (number, name, which): getattr(factors, which)
        for number, episode in enumerate(trained.memory.episodes)
        for name, factors in episode.factors.items()
        for which in ("a", "b")
    }


def assert_same_memory(got, wanted):
    """Every factor is the same to `CLOSE` but for its worst element, and to ten times that with it.

    AdamW divides a gradient by its own size. An element whose gradient is zero but for rounding takes a step that is
    rounding too, and which step that is differs by processor: one such element is no error of the fleet's.
    """
    ours, theirs = factors_of(got), factors_of(wanted)
    assert ours.keys() == theirs.keys()
    for place, factor in theirs.items():
        assert ours[place].shape == factor.shape
        errors = (ours[place] - factor).abs().flatten() / factor.norm()
        but_one = errors.sort().values[:-1]
        assert errors.norm() < 10 * CLOSE, (got.memory.user_id, place, errors.norm())
        assert but_one.norm() < CLOSE, (got.memory.user_id, place, but_one.norm())


def bits(results):
    return [factor for one in results for factor in factors_of(one).values()]
