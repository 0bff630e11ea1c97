"""What every number means: its definition, direction, version and unit, in `METRICS`."""

from __future__ import annotations

from dataclasses import dataclass

from imprint.evaluate.metrics import STOP_WORDS_VERSION
from imprint.evaluate.unrelated import UNRELATED_VERSION

RECALL_AT = (1, 5, 10)
NDCG_AT = 10

_LIKELIEST = (
    "Labels are weighed, not generated: the likelihood of a label is the probability that the model gives exactly it, "
    "summed over its tokens and the end, not divided by its length; of equal ones the first."
)
_RANKED = (
    "The whole catalogue is ranked: every item that any row of the corpus has, by the probability that the model gives "
    "exactly its title, summed over its tokens and the end, not divided by its length; equal ones share their places, "
    "and those behind the thousandth the mean of the places left. "
    "Items that the user had before stay in it, as in User-LLM, unless evaluate.seen_items says removed."
)
_INVALID = (
    "A response that is no label has LaMP's treatment: it is nobody's label; as a rating, a number is as far off as it "
    "is, and what is no number as far as the farther end of the scale."
)


@dataclass(frozen=True)
class Metric:
    """What a number means. `higher_is_better` is None where neither direction is; `unit` is empty for a plain ratio.

    With `root` the values of users are means of squares, and the root is taken of their mean and its bounds.
    """

    name: str
    definition: str
    higher_is_better: bool | None
    version: str
    unit: str
    root: bool = False


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "loss",
            "Cross-entropy of the user's test responses: total nats divided by total response tokens of the user. "
            "Queries and prompts are context and are not counted.",
            False,
            "1",
            "nats per response token",
        ),
        Metric(
            "perplexity",
            "exp of the mean loss over users; the interval is the interval of the loss, transformed by exp.",
            False,
            "1",
            "",
        ),
        Metric(
            "rouge1",
            "ROUGE-1 F-measure of generated against true responses (rouge_score, no stemmer; its tokens are runs of "
            "a-z and 0-9, so other scripts score 0), mean over the user's rows.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "rougeL",
            "ROUGE-L F-measure (longest common subsequence) of generated against true responses (rouge_score, no "
            "stemmer; its tokens are runs of a-z and 0-9), mean over the user's rows.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "bleu",
            "sacrebleu corpus BLEU-4 over the user's rows: one reference, case kept, 13a tokens, exponential "
            "smoothing, effective order off.",
            True,
            "1",
            "0 to 100",
        ),
        Metric(
            "persona_f1",
            "Overlap of the set of words of a generated response with the set of words of the user's training "
            "responses and persona, as F1, mean over the user's rows. Lower case, \\w+ tokens, stop words "
            f"{STOP_WORDS_VERSION} removed. Recall falls as a history grows: compare methods, not corpora.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "persona_precision",
            "The precision in persona_f1: the share of the response's words that are among the user's.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "persona_recall",
            "The recall in persona_f1: the share of the user's words that are in the response.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "p_cover",
            "Largest sum of inverse document frequencies of the words that a generated response shares with one text "
            "of the user's history (ln N / df over the user's N training responses and persona texts, no stop words, "
            "no length normalisation), mean over the user's rows.",
            True,
            "2",
            "nats",
        ),
        Metric(
            "p_cover_mean",
            "As p_cover, each sum divided by the number of shared words: the formula of DHAP's paper, which its "
            "released code does not follow.",
            True,
            "2",
            "nats",
        ),
        Metric(
            "fact_presence",
            "Share of test questions about a fact that the user gave before, for which the generated response holds "
            "its value as whole words, whatever the case.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "fact_absence",
            "Share of test questions about a fact that the user never gave, for which the generated response holds no "
            "value that any user's training rows have for that fact.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "win_rate",
            "Share of the user's judged responses that the judge prefers to the opponent's response to the same query, "
            "ties as halves. A judge that reads is asked in both orders; a contradiction is a tie. Who judged and who "
            "the opponent was stands in the run's conditions.",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "tie_rate",
            "Share of the user's judged responses for which win_rate counts a tie.",
            None,
            "1",
            "0 to 1",
        ),
        Metric(
            "own_words_rate",
            "A trial of the judge: share of the judged queries for which it prefers what the user really wrote to the "
            "opponent's response, where these differ. Near one half or below it the judge cannot tell, and win_rate "
            "means little; near one it may still go by fluency alone.",
            None,
            "1",
            "0 to 1",
        ),
        Metric(
            "accuracy",
            f"Share of the user's rows for which the right label is the likeliest one. {_LIKELIEST}",
            True,
            "1",
            "0 to 1",
        ),
        Metric(
            "macro_f1",
            "F1 of each label of the task over the rows of all users, mean over all labels, those that nobody gave "
            "included as 0 (LaMP's rule); over several tasks, mean of those that somebody was asked. The label is "
            "chosen as for accuracy. The interval resamples users.",
            True,
            "2",
            "0 to 1",
        ),
        Metric(
            "mae",
            "Mean distance between the user's rating and the likeliest one. The rating is chosen as for accuracy.",
            False,
            "1",
            "points of the rating",
        ),
        Metric(
            "rmse",
            "Root of the mean over users of the mean squared distance between rating and likeliest rating; the "
            "interval is that of the mean, its root taken.",
            False,
            "1",
            "points of the rating",
            root=True,
        ),
        *(
            Metric(
                f"recall@{k}",
                f"Share of the user's rows whose right item is among the {k} likeliest. {_RANKED}",
                True,
                "1",
                "0 to 1",
            )
            for k in RECALL_AT
        ),
        Metric(
            f"ndcg@{NDCG_AT}",
            f"1 / log2(rank + 1) where the right item is among the {NDCG_AT} likeliest, else 0, mean over the user's "
            f"rows. {_RANKED}",
            True,
            "1",
            "0 to 1",
        ),
        Metric("mrr", f"1 / rank of the right item, mean over the user's rows. {_RANKED}", True, "2", "0 to 1"),
        Metric(
            "free_accuracy",
            "Share of generated responses that are the right label or item, word for word. Generated, not chosen: "
            "nothing keeps the model to the answers there are.",
            True,
            "1",
            "0 to 1",
        ),
        Metric("free_macro_f1", f"As macro_f1, of generated responses. {_INVALID}", True, "2", "0 to 1"),
        Metric("free_mae", f"As mae, of generated responses. {_INVALID}", False, "1", "points of the rating"),
        Metric("free_rmse", f"As rmse, of generated responses. {_INVALID}", False, "1", "points of the rating", True),
        Metric(
            "invalid_rate",
            "Share of generated responses that are none of the task's answers.",
            False,
            "1",
            "0 to 1",
        ),
        Metric(
            "own_best_share",
            "Share of users whose test loss is lower under their own memory than under the memory of every other user "
            "it was tried with; for a method without memories, when it knows them by their own history. A tie is not a "
            "win.",
            True,
            "1",
            "share of users",
        ),
        Metric(
            "specificity_gap",
            "Mean test loss of a user under the other users' memories (known by their histories), minus the loss under "
            "the user's own.",
            True,
            "1",
            "nats per response token",
        ),
        Metric(
            "drift",
            f"Loss of a fixed text that is no user's ({UNRELATED_VERSION}: general questions and answers) under this "
            "user's memory, or when the user's history is known, minus its loss under the pooled model: what knowing a "
            "user costs elsewhere.",
            False,
            "2",
            "nats per response token",
        ),
        Metric(
            "seconds_per_user",
            "Seconds that one user costs on the machine of this run: training of a memory, where users of one fleet "
            "share its time, or encoding of a history. Training of weights that all users share is not in it.",
            False,
            "2",
            "seconds",
        ),
        Metric(
            "bytes_per_user",
            "Bytes kept of one user: a memory in the store, vectors of a history, or its text.",
            False,
            "2",
            "bytes",
        ),
    )
}
"""The only list of metrics. Keys are those of `metrics.json`."""

DECIDING = {"text": "loss", "label": "accuracy", "rating": "mae", "item": "recall@10"}
"""By the kind of a task the metric that says which method is best at it."""
