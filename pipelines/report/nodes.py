"""Draw what was found, and put it on one page."""

from typing import Any


def plot_search(trials: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Best objective so far by study, and objective against trainable parameters."""
    from imprint.report.plots import convergence, pareto

    return convergence(trials), pareto(trials)


def plot_gains(scores: Any) -> Any:
    """What each user gains by their own memory."""
    from imprint.report.plots import gains

    return gains(_user_losses(scores))


def plot_specificity(specificity: dict[str, Any]) -> Any:
    """Whose words under whose memory."""
    from imprint.report.plots import specificity_heatmap

    return specificity_heatmap(specificity)


def write_report(
    metrics: dict[str, Any],
    trials: list[dict[str, Any]],
    scores: Any,
    responses: Any,
    specificity: dict[str, Any],
    partition_summary: dict[str, Any],
    validation_result: dict[str, Any],
    ingest_report: dict[str, Any],
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
) -> str:
    """The one-file report."""
    from imprint.evaluate.per_user import side_by_side
    from imprint.report.page import render_report

    return render_report(
        metrics,
        trials=trials,
        scores=_user_losses(scores),
        specificity=specificity,
        examples=side_by_side(responses.to_table().to_pylist()),
        partition=partition_summary,
        validation=validation_result,
        ingest=ingest_report,
        base=pooled_model,
        search=search_result,
    )


def _user_losses(scores: Any) -> list[tuple[str, str, float]]:
    from imprint.evaluate.per_user import losses

    return [
        (method, user_id, loss)
        for method, metrics in losses(scores.to_table().to_pylist()).items()
        for user_id, loss in metrics["loss"].items()
    ]
