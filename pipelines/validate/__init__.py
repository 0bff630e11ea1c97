"""From ingested interactions to valid ones, with a quarantine and a page that says why."""

from pipelines.validate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
