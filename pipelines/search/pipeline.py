"""Wiring: histories and the pooled model to the configs that the search's scope asks for, and every trial."""

from kedro.pipeline import Node, Pipeline

from pipelines.search.nodes import search_memory_config


def create_pipeline() -> Pipeline:
    """One node: the population's studies on pilots; then, in scope `cohort` or `user`, one study a cohort or user.

    The later ones begin at the population's best points and move in lockstep, so they cannot be nodes of their own.
    """
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
