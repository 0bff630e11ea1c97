"""Every configured method at an equal budget, and what each costs."""

from pipelines.compare.pipeline import create_pipeline

__all__ = ["create_pipeline"]
