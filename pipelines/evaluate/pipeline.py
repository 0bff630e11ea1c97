"""Wiring: methods and test rows to scores, responses, specificity and metrics."""

from kedro.pipeline import Node, Pipeline

from pipelines.evaluate.nodes import answer_queries, measure_specificity, score_methods, summarise_metrics

_DATA = ["user_histories", "user_index"]
_METHODS = ["base_model", "pooled_model", "baseline_memories", "memories"]
_SETTINGS = ["params:base", "params:memory", "params:evaluate"]


def create_pipeline() -> Pipeline:
    """Three measurements and their summary."""
    return Pipeline(
        [
            Node(
                score_methods,
                [*_DATA, *_METHODS, *_SETTINGS],
                "scores",
                name="score_methods",
                tags=["group.evaluate", "res.train"],
            ),
            Node(
                answer_queries,
                [*_DATA, *_METHODS, *_SETTINGS],
                "responses",
                name="answer_queries",
                tags=["group.evaluate", "res.train"],
            ),
            Node(
                measure_specificity,
                [*_DATA, "pooled_model", "memories", *_SETTINGS],
                "specificity",
                name="measure_specificity",
                tags=["group.evaluate", "res.train"],
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
                ],
                "metrics",
                name="summarise_metrics",
                tags=["group.evaluate", "res.small"],
            ),
        ]
    )
