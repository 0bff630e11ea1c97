"""Wiring: configs and histories to methods at one budget, to metrics and a page."""

from kedro.pipeline import Node, Pipeline

from pipelines.compare.nodes import measure_compared, teach_shared_methods, train_compared_memories
from pipelines.compare.summary import summarise_comparison

_DATA = ["user_histories", "user_index"]
_TRAIN = ["group.compare", "res.train"]


def create_pipeline() -> Pipeline:
    """Two kinds of training, one measurement, and its summary with its page."""
    return Pipeline(
        [
            Node(
                train_compared_memories,
                [
                    *_DATA,
                    "study_groups",
                    "own_choices",
                    "pooled_model",
                    "search_result",
                    "params:base",
                    "params:memory",
                    "params:compare",
                    "params:seed",
                    "memory_workspace",
                    "shard_names",
                ],
                "compared_memories",
                name="train_compared_memories",
                tags=_TRAIN,
            ),
            Node(
                teach_shared_methods,
                [*_DATA, "pooled_model", "params:base", "params:compare", "params:seed", "memory_workspace"],
                "shared_methods",
                name="teach_shared_methods",
                tags=_TRAIN,
            ),
            Node(
                measure_compared,
                [
                    *_DATA,
                    "base_model",
                    "pooled_model",
                    "compared_memories",
                    "shared_methods",
                    "params:base",
                    "params:memory",
                    "params:compare",
                    "params:evaluate",
                    "params:seed",
                    "memory_workspace",
                ],
                ["compared_scores", "compared_responses", "compared_costs"],
                name="measure_compared",
                tags=_TRAIN,
            ),
            Node(
                summarise_comparison,
                [
                    *_DATA,
                    "compared_scores",
                    "compared_responses",
                    "compared_costs",
                    "compared_memories",
                    "shared_methods",
                    "base_model",
                    "pooled_model",
                    "search_result",
                    "trials",
                    "own_trials",
                    "params:compare",
                    "params:evaluate",
                    "params:seed",
                    "shard_names",
                ],
                ["metrics", "comparison"],
                name="summarise_comparison",
                tags=["group.summary", "res.small"],
            ),
        ]
    )
