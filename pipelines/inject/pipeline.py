"""Wiring: histories and configs to stores of memories."""

from kedro.pipeline import Node, Pipeline

from pipelines.inject.nodes import train_baseline_memories, train_memories

_INPUTS = [
    "user_histories",
    "user_index",
    "pooled_model",
    "search_result",
    "params:base",
    "params:memory",
    "params:seed",
    "memory_workspace",
]


def create_pipeline() -> Pipeline:
    """The memories, and those they are held against."""
    tags = ["group.inject", "res.train"]
    return Pipeline(
        [
            Node(train_memories, _INPUTS, "memories", name="train_memories", tags=tags),
            Node(train_baseline_memories, _INPUTS, "baseline_memories", name="train_baseline_memories", tags=tags),
        ]
    )
