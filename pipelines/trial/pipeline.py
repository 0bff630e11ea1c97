"""Wiring: pilot users and a config to its objective value."""

from kedro.pipeline import Node, Pipeline

from pipelines.trial.nodes import try_memory_config


def create_pipeline() -> Pipeline:
    """One node, run by itself once there is a pooled model; by Katib many times over."""
    return Pipeline(
        [
            Node(
                try_memory_config,
                [
                    "user_histories",
                    "user_index",
                    "pooled_model",
                    "params:base",
                    "params:search",
                    "params:memory",
                    "params:trial",
                    "params:seed",
                ],
                "trial_result",
                name="try_memory_config",
                tags=["group.trial", "res.train"],
            )
        ]
    )
