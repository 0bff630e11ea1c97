"""One memory config, given as parameters, tried on the pilot users: what a search outside of Imprint asks for."""

from pipelines.trial.pipeline import create_pipeline

__all__ = ["create_pipeline"]
