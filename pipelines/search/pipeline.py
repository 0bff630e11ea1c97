"""Wiring: pilots' histories and the pooled model to a config and its trials."""

from kedro.pipeline import Node, Pipeline

from pipelines.search.nodes import search_memory_config


def create_pipeline() -> Pipeline:
    """One node: the studies share their trials' budget and their pilots."""
    return Pipeline(
        [
            Node(
                search_memory_config,
                [
                    "user_histories",
                    "user_index",
                    "pooled_model",
                    "params:base",
                    "params:search",
                    "params:memory",
                    "params:seed",
                    "search_workspace",
                ],
                ["search_result", "trials", "own_trials"],
                name="search_memory_config",
                tags=["group.search", "res.train"],
            )
        ]
    )
