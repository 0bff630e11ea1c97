"""Wiring: methods and test rows to scores, responses, specificity and metrics."""

from kedro.pipeline import Node, Pipeline

from pipelines.evaluate.gather import measure_specificity, summarise_metrics
from pipelines.evaluate.nodes import answer_queries, score_methods

_DATA = ["user_histories", "user_index"]
_METHODS = ["base_model", "pooled_model", "baseline_memories", "memories"]
_SETTINGS = ["params:base", "params:memory", "params:evaluate"]
_SHARDS = ["shard_names", "params:shard"]
_BY_SHARD = ["group.evaluate", "res.train", "fanout.shard_names"]


def create_pipeline() -> Pipeline:
    """Two measurements shard by shard, one across all, and the summary."""
    return Pipeline(
        [
            Node(
                score_methods,
                [*_DATA, *_METHODS, *_SETTINGS, *_SHARDS],
                "scores",
                name="score_methods",
                tags=_BY_SHARD,
            ),
            Node(
                answer_queries,
                [*_DATA, *_METHODS, *_SETTINGS, *_SHARDS],
                "responses",
                name="answer_queries",
                tags=_BY_SHARD,
            ),
            Node(
                measure_specificity,
                [*_DATA, "pooled_model", "memories", *_SETTINGS],
                "specificity",
                name="measure_specificity",
                tags=["group.specificity", "res.train"],
            ),
            Node(
                summarise_metrics,
                [
                    *_DATA,
                    "scores",
                    "responses",
                    "specificity",
                    "baseline_memories",
                    "memories",
                    "search_result",
                    "params:evaluate",
                    "params:seed",
                    "shard_names",
                ],
                "metrics",
                name="summarise_metrics",
                tags=["group.report", "res.small"],
            ),
        ]
    )
