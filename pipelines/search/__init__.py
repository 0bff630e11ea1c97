"""The search for the memory config."""

from pipelines.search.pipeline import create_pipeline

__all__ = ["create_pipeline"]
