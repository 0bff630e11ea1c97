"""The pictures, and the page that holds them."""

from pipelines.report.pipeline import create_pipeline

__all__ = ["create_pipeline"]
