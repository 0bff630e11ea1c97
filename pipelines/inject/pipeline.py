"""Wiring: histories and configs to stores of memories."""

from kedro.pipeline import Node, Pipeline

from pipelines.inject.nodes import train_baseline_memories, train_memories

_DATA = ["user_histories", "user_index"]
_FOUND = ["pooled_model", "search_result"]
_HOW = ["params:base", "params:memory", "params:seed", "memory_workspace", "shard_names", "params:shard"]


def create_pipeline() -> Pipeline:
    """The memories, and those they are held against; of each shard a store a method."""
    tags = ["group.inject", "res.train", "fanout.shard_names"]
    return Pipeline(
        [
            Node(
                train_memories,
                [*_DATA, "study_groups", "own_choices", *_FOUND, *_HOW],
                "memories",
                name="train_memories",
                tags=tags,
            ),
            Node(
                train_baseline_memories,
                [*_DATA, "memories", *_FOUND, *_HOW],
                "baseline_memories",
                name="train_baseline_memories",
                tags=tags,
            ),
        ]
    )
