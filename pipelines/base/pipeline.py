"""Wiring: histories to base model to pooled model."""

from kedro.pipeline import Node, Pipeline

from pipelines.base.nodes import pool_users, prepare_base_model


def create_pipeline() -> Pipeline:
    """Two records, the second trained on top of the first."""
    return Pipeline(
        [
            Node(
                prepare_base_model,
                ["user_histories", "user_index", "params:base", "params:seed", "base_workspace"],
                "base_model",
                name="prepare_base_model",
                tags=["group.base", "res.train"],
            ),
            Node(
                pool_users,
                [
                    "user_histories",
                    "user_index",
                    "base_model",
                    "params:base",
                    "params:pooled",
                    "params:seed",
                    "base_workspace",
                ],
                "pooled_model",
                name="pool_users",
                tags=["group.base", "res.train"],
            ),
        ]
    )
