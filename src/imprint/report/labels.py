"""What metrics and methods are called on pages, in which order and groups they stand, and how a value is written."""

from __future__ import annotations

from imprint.evaluate.definitions import DECIDING

METHOD_ORDER = (
    "random",
    "majority",
    "own_majority",
    "popularity",
    "base",
    "pooled",
    "recent_history",
    "retrieval",
    "tuned_history",
    "persona_plug",
    "user_llm",
    "fixed_memory",
    "random_memory",
    "population_memory",
    "memory",
    "memory+retrieval",
)
ANSWERS = (
    "loss",
    "perplexity",
    "rouge1",
    "rougeL",
    "bleu",
    "persona_f1",
    "persona_precision",
    "persona_recall",
    "p_cover",
    "p_cover_mean",
    "win_rate",
    "tie_rate",
    "own_words_rate",
    "fact_presence",
    "fact_absence",
)
"""Metrics of how well users are answered in words."""
CHOICES = (
    "accuracy",
    "macro_f1",
    "mae",
    "rmse",
    "recall@1",
    "recall@5",
    "recall@10",
    "ndcg@10",
    "mrr",
    "free_accuracy",
    "free_macro_f1",
    "free_mae",
    "free_rmse",
    "invalid_rate",
)
"""Metrics of answers that are one of a set. What is in neither list says whose a memory is and what it costs."""
CHOSEN_BY_KIND = {
    "text": (DECIDING["text"], "rougeL", "persona_f1"),
    "label": (DECIDING["label"], "macro_f1", "loss", "free_accuracy", "invalid_rate"),
    "rating": (DECIDING["rating"], "rmse", "accuracy", "loss", "free_mae", "invalid_rate"),
    "item": (DECIDING["item"], "ndcg@10", "mrr", "loss", "free_accuracy"),
}
"""What a table of one task shows, by the kind of the task; the first one says which method is best."""
LABELS = {
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "persona_f1": "Persona-F1",
    "persona_precision": "Persona precision",
    "persona_recall": "Persona recall",
    "p_cover": "P-Cover",
    "p_cover_mean": "P-Cover, mean",
    "win_rate": "win rate",
    "tie_rate": "ties",
    "own_words_rate": "judge prefers own words",
    "fact_presence": "facts given",
    "fact_absence": "facts not made up",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "recall@1": "Recall@1",
    "recall@5": "Recall@5",
    "recall@10": "Recall@10",
    "ndcg@10": "NDCG@10",
    "mrr": "MRR",
    "free_accuracy": "accuracy, free text",
    "free_macro_f1": "macro F1, free text",
    "free_mae": "MAE, free text",
    "free_rmse": "RMSE, free text",
    "invalid_rate": "invalid",
    "own_best_share": "own is best",
    "specificity_gap": "specificity gap",
    "seconds_per_user": "time per user",
    "bytes_per_user": "size per user",
}
"""Where the key alone would not do."""
IN_PERCENT = (
    "own_best_share",
    "win_rate",
    "tie_rate",
    "own_words_rate",
    "fact_presence",
    "fact_absence",
    "invalid_rate",
)


def label(metric: str) -> str:
    """The name of a metric as people write it."""
    return LABELS.get(metric, metric)


def format_value(metric: str, value: float) -> str:
    """A score with the digits and the unit that its metric deserves."""
    if metric in IN_PERCENT:
        return f"{100 * value:.1f} %"
    if metric == "seconds_per_user":
        return f"{value:.2f} s"
    if metric == "bytes_per_user":
        return _bytes(value)
    return f"{value:.{2 if metric in ('perplexity', 'bleu') else 3}f}"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"
