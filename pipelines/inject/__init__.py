"""Every user's memory, in the config found and in the fixed one."""

from pipelines.inject.pipeline import create_pipeline

__all__ = ["create_pipeline"]
