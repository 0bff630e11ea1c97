"""What each method is worth on rows nothing was trained or searched on."""

from pipelines.evaluate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
