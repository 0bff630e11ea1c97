"""From a corpus in its published form to interactions under pseudonyms."""

from pipelines.ingest.pipeline import create_pipeline

__all__ = ["create_pipeline"]
