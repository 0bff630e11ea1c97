"""Wiring: interactions to histories and user index."""

from kedro.pipeline import Node, Pipeline

from pipelines.partition.nodes import partition_users


def create_pipeline() -> Pipeline:
    """One node."""
    return Pipeline(
        [
            Node(
                partition_users,
                ["interactions", "params:partition", "spool"],
                ["user_histories", "user_index", "partition_summary", "shard_names"],
                name="partition_users",
                tags=["group.prepare", "res.small"],
            )
        ]
    )
