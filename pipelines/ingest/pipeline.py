"""Wiring: corpus to ingested rows."""

from kedro.pipeline import Node, Pipeline

from pipelines.ingest.nodes import ingest_corpus


def create_pipeline() -> Pipeline:
    """One node: it checks the corpus before it does any work."""
    return Pipeline(
        [
            Node(
                ingest_corpus,
                ["params:corpus", "params:ingest", "pseudonym_key", "spool"],
                ["ingested", "ingest_report", "known_names"],
                name="ingest_corpus",
                tags=["group.prepare", "res.small"],
            )
        ]
    )
