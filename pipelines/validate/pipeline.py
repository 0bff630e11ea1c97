"""Wiring: ingested rows to interactions, quarantine, result and page."""

from kedro.pipeline import Node, Pipeline

from pipelines.validate.nodes import render_validation_page, validate_interactions


def create_pipeline() -> Pipeline:
    """Validation and its page."""
    return Pipeline(
        [
            Node(
                validate_interactions,
                ["ingested", "interaction_expectations", "params:validate", "spool", "stopped_page"],
                ["interactions", "quarantine", "validation_result"],
                name="validate_interactions",
                tags=["group.prepare", "res.small"],
            ),
            Node(
                render_validation_page,
                ["validation_result", "quarantine"],
                "validation_page",
                name="render_validation_page",
                tags=["group.prepare", "res.small"],
            ),
        ]
    )
