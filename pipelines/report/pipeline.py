"""Wiring: what was measured to plots and a page."""

from kedro.pipeline import Node, Pipeline

from pipelines.report.nodes import plot_gains, plot_search, plot_specificity, write_report

_TAGS = ["group.report", "res.small"]


def create_pipeline() -> Pipeline:
    """Four plots that kedro-viz previews, and the report."""
    return Pipeline(
        [
            Node(plot_search, "trials", ["convergence_plot", "pareto_plot"], name="plot_search", tags=_TAGS),
            Node(plot_gains, ["scores", "shard_names"], "gains_plot", name="plot_gains", tags=_TAGS),
            Node(plot_specificity, "specificity", "specificity_plot", name="plot_specificity", tags=_TAGS),
            Node(
                write_report,
                [
                    "metrics",
                    "trials",
                    "scores",
                    "responses",
                    "specificity",
                    "partition_summary",
                    "validation_result",
                    "ingest_report",
                    "pooled_model",
                    "search_result",
                    "study_groups",
                    "own_choices",
                    "shard_names",
                ],
                "report",
                name="write_report",
                tags=_TAGS,
            ),
        ]
    )
