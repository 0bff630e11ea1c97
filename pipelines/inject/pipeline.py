"""Wiring: histories and a config to a store of memories, twice."""

from kedro.pipeline import Node, Pipeline

from pipelines.inject.nodes import train_fixed_memories, train_searched_memories

_DATA = ["user_histories", "user_index", "pooled_model"]
_SETTINGS = ["params:base", "params:memory", "params:seed", "memory_workspace"]


def create_pipeline() -> Pipeline:
    """Two stores: in the config found, and in the fixed one."""
    return Pipeline(
        [
            Node(
                train_searched_memories,
                [*_DATA, "search_result", *_SETTINGS],
                "memories",
                name="train_searched_memories",
                tags=["group.inject", "res.train"],
            ),
            Node(
                train_fixed_memories,
                [*_DATA, *_SETTINGS],
                "fixed_memories",
                name="train_fixed_memories",
                tags=["group.inject", "res.train"],
            ),
        ]
    )
