"""Populations of users: what was measured of one, what is assumed, and the arithmetic from there to millions.

The figures stand in the two tables below and nowhere else. No card was ever measured: its speed is the number of
operations that training needs, over an assumed share of the rate in its data sheet, in three cases.
"""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

from schedule import Cluster, Loop, run_loop

SEED = 7
SCALES = (10_000, 1_000_000, 100_000_000)
CASES = ("slow", "likely", "fast")
HOUR = 3600.0


class Measured(NamedTuple):
    """A figure, what it is of, and the page that has it with its command."""

    value: float
    what: str
    page: str


class Assumed(NamedTuple):
    """A figure in three cases, and why these."""

    slow: float
    likely: float
    fast: float
    what: str
    why: str


class Shape(NamedTuple):
    """A LLaMA-like base: what its operations and its memories' bytes follow from."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int


MEASURED = {
    "rows_a_user": Measured(230, "interactions a user, of users with at least 100", "irc.md"),
    "train_rows": Measured(162, "of them training rows", "irc.md"),
    "rows_a_second": Measured(2370, "rows a second through ingest, validate and partition, one thread", "irc.md"),
    "bytes_a_row": Measured(304, "bytes a row in the tables of these three stages", "irc.md"),
    "seconds_a_user": Measured(0.61, "seconds to train a memory on the embedded base, two cores", "bench.md"),
    "bytes_a_user": Measured(196_608, "bytes of such a memory", "reviews.md"),
    "seconds_a_trial": Measured(1.05, "seconds of a trial of users' own searches on it, all in lockstep", "bench.md"),
    "trial": Measured(1.34, "memories of the population's search that such a trial takes as long as", "bench.md"),
}

ASSUMED = {
    "peak": Assumed(
        312e12, 312e12, 312e12, "operations a second, a card", "an A100's data sheet, bf16 without sparsity"
    ),
    "share": Assumed(0.05, 0.15, 0.30, "share of them that the fleet reaches", "a CPU's is in bench.md"),
    "row_tokens": Assumed(64, 64, 64, "tokens a row, half of them the response", "as `make bench` has it"),
    "start": Assumed(180, 60, 20, "seconds until a pod works", "image there or not, machine there or not"),
    "failures": Assumed(0.05, 0.01, 0.002, "failures a pod and hour", "machines that may be taken away, or kept"),
    "slow_share": Assumed(0.05, 0.03, 0.01, "share of slow machines", "a guess"),
    "slow_factor": Assumed(2.5, 2.0, 1.5, "how much slower they are", "a guess"),
    "card_price": Assumed(4.0, 2.5, 1.5, "dollars a card and hour", "on demand to spot"),
    "core_price": Assumed(0.06, 0.045, 0.03, "dollars a core and hour", "on demand to spot"),
    "gb_price": Assumed(0.025, 0.023, 0.02, "dollars a GB and month", "object storage"),
    "noted": Assumed(5, 5, 5, "things Argo notes for one task of a loop", "a driver and a step, and what holds them"),
    "room": Assumed(
        4000, 4000, 4000, "things it has room for in a run", "an object of 1 MB; users report about as many"
    ),
    "shard_hours": Assumed(4, 4, 4, "hours of search a shard, at the likely speed", "a choice: see below"),
    "users_spread": Assumed(
        1.5, 1.5, 1.5, "standard deviation over mean of a user's work", "histories have long tails"
    ),
}

LLAMA_1B = Shape(hidden=2048, feed_forward=8192, layers=16, heads=32, kv_heads=8, vocabulary=32_000)
RANK, EPOCHS = 8, 4  # memory.fixed_config of conf/base
CREW = 64  # memory.fleet.crew: what a kill loses at most
OWN_TRIALS, BASELINES = 3, 3  # search.own_trials, and the memory methods beside `memory`
ATTEMPTS = 2  # profiles.default.retry.attempts of conf/cluster: a shard that fails once more is given up
LOOPS = 3  # in a run: search, inject, evaluate


def assumed(name: str, case: str) -> float:
    """An assumption in a case."""
    return float(getattr(ASSUMED[name], case))


def training_operations(shape: Shape, tokens: float, rank: int = RANK, epochs: int = EPOCHS) -> float:
    """Operations of one memory with `rank` at every feed-forward linear (`flops.py` counts them one by one).

    Two passes through the frozen weights: forward, and back to the inputs. The gradients of the LoRA itself and
    attention between tokens are left out; half of the tokens are scored against the vocabulary.
    """
    attention = shape.hidden**2 * (2 + 2 * shape.kv_heads / shape.heads)
    layer = attention + 3 * shape.hidden * shape.feed_forward
    return 4 * epochs * tokens * (shape.layers * layer + shape.hidden * shape.vocabulary / 2)


def memory_bytes(shape: Shape, rank: int = RANK) -> int:
    """Bytes of one memory in fp32, with `rank` at every feed-forward linear."""
    return 4 * shape.layers * 3 * rank * (shape.hidden + shape.feed_forward)


def own_search() -> float:
    """A user's own search, in trainings of one memory."""
    return OWN_TRIALS * MEASURED["trial"].value


def work() -> dict[str, float]:
    """Trainings a user, by what is run."""
    return {
        "memories in the population's config": 1.0,
        "every user's own search, and the memory": own_search() + 1,
        "the whole pipeline, baselines included": own_search() + 1 + BASELINES,
    }


def card_seconds(case: str, trainings: float = 1) -> float:
    """Seconds of one card for so many trainings of one user on LLaMA 1B."""
    tokens = MEASURED["train_rows"].value * assumed("row_tokens", case)
    return trainings * training_operations(LLAMA_1B, tokens) / (assumed("peak", case) * assumed("share", case))


def most_shards() -> int:
    """Shards that one run's record has room for."""
    return int(assumed("room", "likely") // (LOOPS * assumed("noted", "likely")))


def shards_for(users: int, case: str = "likely") -> tuple[int, int]:
    """Shards altogether, each with `shard_hours` of search, and runs, each with at most `most_shards` of them."""
    shards = math.ceil(users * card_seconds(case, own_search()) / (assumed("shard_hours", case) * HOUR))
    runs = math.ceil(shards / most_shards())
    return math.ceil(shards / runs) * runs, runs


def cluster_of(case: str, places: int) -> Cluster:
    """The simulated cluster of a case."""
    return Cluster(
        places=places,
        start=assumed("start", case),
        failures_an_hour=assumed("failures", case),
        slow_share=assumed("slow_share", case),
        slow_factor=assumed("slow_factor", case),
        lost=CREW * card_seconds(case, own_search()),
        attempts=ATTEMPTS,
    )


def shard_work(users: float, shards: int, trainings: float, case: str) -> list[float]:
    """Seconds of work of each shard: users fall into shards by a hash, and their histories differ."""
    each = users / shards
    spread = math.sqrt((1 + assumed("users_spread", case) ** 2) / each)
    draw = Random(SEED)
    mean = each * card_seconds(case, trainings)
    return [mean * max(0.1, draw.gauss(1.0, spread)) for _ in range(shards)]


def simulated(users: float, shards: int, case: str, places: int) -> list[Loop]:
    """The two long loops of one run over so many users: every user's search, then the memories."""
    cluster = cluster_of(case, places)
    return [run_loop(shard_work(users, shards, trainings, case), cluster, SEED) for trainings in (own_search(), 1)]


def read_hours(users: int) -> float:
    """Hours that ingest, validate and partition take, one after another in one thread."""
    return users * MEASURED["rows_a_user"].value / MEASURED["rows_a_second"].value / HOUR


def core_hours(users: int) -> float:
    """Core hours of every user's own search and memory on the embedded base, as measured on two cores."""
    return 2 * users * (OWN_TRIALS * MEASURED["seconds_a_trial"].value + MEASURED["seconds_a_user"].value) / HOUR


def table_bytes(users: int) -> float:
    """Bytes of the tables of these three stages."""
    return users * MEASURED["rows_a_user"].value * MEASURED["bytes_a_row"].value
