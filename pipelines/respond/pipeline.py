"""Wiring: requests and memories to responses and refusals."""

from kedro.pipeline import Node, Pipeline

from pipelines.respond.nodes import respond_to_requests


def create_pipeline() -> Pipeline:
    """One node, run by itself once memories are there."""
    return Pipeline(
        [
            Node(
                respond_to_requests,
                [
                    "user_index",
                    "pooled_model",
                    "memories",
                    "known_names",
                    "params:corpus",
                    "params:base",
                    "params:memory",
                    "params:respond",
                    "pseudonym_key",
                    "shard_names",
                ],
                ["answered_requests", "refused_requests"],
                name="respond_to_requests",
                tags=["group.respond", "res.train"],
            )
        ]
    )
