"""From valid interactions to users: splits, roles, shards, and the user index."""

from pipelines.partition.pipeline import create_pipeline

__all__ = ["create_pipeline"]
