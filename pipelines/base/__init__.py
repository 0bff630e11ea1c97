"""The base model of the run, and the pooled model that memories are trained on."""

from pipelines.base.pipeline import create_pipeline

__all__ = ["create_pipeline"]
