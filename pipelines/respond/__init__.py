"""Answers for many users, each by their own memory."""

from pipelines.respond.pipeline import create_pipeline

__all__ = ["create_pipeline"]
