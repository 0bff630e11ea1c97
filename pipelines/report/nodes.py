"""Draw what was found, and put it on one page."""

from typing import Any


def plot_search(trials: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Best objective so far by study, and objective against trainable parameters."""
    from imprint.report.plots import convergence, pareto

    return convergence(trials), pareto(trials)


def plot_gains(scores: Any, shard_names: list[str]) -> Any:
    """What each user gains by their own memory."""
    from imprint.report.plots import gains

    return gains(_user_losses(scores, shard_names))


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
    study_groups: Any,
    own_choices: Any,
    shard_names: list[str],
) -> str:
    """The one-file report."""
    from imprint.evaluate.per_user import side_by_side
    from imprint.memory.config import MemoryConfig
    from imprint.report.page import render_report, telling_examples
    from imprint.search.own import count_own

    population = MemoryConfig(**search_result["population"]["tpe"]["config"])
    answered = (side_by_side(responses(name).to_table().to_pylist()) for name in shard_names)
    return render_report(
        metrics,
        trials=trials,
        scores=_user_losses(scores, shard_names),
        specificity=specificity,
        examples=[example for some in answered for example in telling_examples(some)],
        partition=partition_summary,
        validation=validation_result,
        ingest=ingest_report,
        base=pooled_model,
        search={**search_result, **count_own(study_groups, own_choices, shard_names, population)},
    )


def _user_losses(scores: Any, shard_names: list[str]) -> list[tuple[str, str, float]]:
    from imprint.evaluate.per_user import losses

    return [
        (method, user_id, loss)
        for name in shard_names
        for method, metrics in losses(scores(name).to_table().to_pylist()).items()
        for user_id, loss in metrics["loss"].items()
    ]
