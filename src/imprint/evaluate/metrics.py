"""Every metric: a record (definition, direction, version, unit) in `METRICS`, and the code that computes it.

Text metrics are averaged over the rows of one user here; `statistics` averages over users. Persona-F1 follows the set
overlap of Lian et al. 2019 ("Learning to Select Knowledge for Response Generation in Dialog Systems"), P-Cover the
released evaluation code of DHAP (Ma et al. 2021, "One Chatbot Per Person"). MiLP names a Persona-F1 and defines none.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from imprint.errors import NotEnoughDataError

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

STOP_WORDS_VERSION = "en-1"
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a about after again all also am an and any are as at be because been before being both but by can could did do does
    doing don down each few for from had has have having he her here hers him his how i if in into is it its just ll m
    me more most my no nor not now of off on once only or other our out over own re s same she should so some such t
    than that the their them then there these they this those through to too under until up ve very was we were what
    when where which while who whom why will with would you your yours
    """,
    )
)
"""English function words, and the pieces that `\\w+` leaves of contractions. A change here is a new version."""


@dataclass(frozen=True)
class Metric:
    """What a number means. `higher_is_better` is None where neither direction is; `unit` is empty for a plain ratio."""

    name: str
    definition: str
    higher_is_better: bool | None
    version: str
    unit: str


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
            "p_cover",
            "Largest sum of inverse document frequencies of the words that a generated response shares with one text "
            "of the user's history (ln N / df over the user's own N texts, no stop words, no length normalisation), "
            "mean over the user's rows.",
            True,
            "1",
            "nats",
        ),
        Metric(
            "own_best_share",
            "Share of users whose test loss is lower under their own memory than under the memory of every other user "
            "it was tried with. A tie is not a win.",
            True,
            "1",
            "share of users",
        ),
        Metric(
            "specificity_gap",
            "Mean test loss of a user under the other users' memories, minus the loss under the user's own.",
            True,
            "1",
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


@dataclass(frozen=True)
class PersonaOverlap:
    """Overlap of one response with what its user is known to say: all three are ratios between 0 and 1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Specificity:
    """Whether a user's own memory is the best of all for the user, and by how many nats per token on average."""

    own_best: bool
    gap: float


def words(text: str, stop: frozenset[str] = STOP_WORDS) -> frozenset[str]:
    r"""The set of lower-case `\w+` tokens of `text` that are not in `stop`."""
    return frozenset(re.findall(r"\w+", text.lower())) - stop


def persona_f1(response: str, history_words: frozenset[str], stop: frozenset[str] = STOP_WORDS) -> PersonaOverlap:
    """Overlap of `response` with `history_words`: the `words` of the user's training responses and persona.

    All zero where nothing overlaps or either side is empty. `stop` must be the one that `history_words` was made with.
    """
    said = words(response, stop)
    shared = len(said & history_words)
    if not shared:
        return PersonaOverlap(0.0, 0.0, 0.0)
    precision, recall = shared / len(said), shared / len(history_words)
    return PersonaOverlap(precision, recall, 2 * precision * recall / (precision + recall))


def p_cover(response: str, histories: Sequence[str]) -> float:
    """The idf-weighted cover of `response` by the best matching text of one user's `histories` (0 without any).

    Not normalised by length, as in DHAP's released code; a word that is in every text weighs nothing.
    """
    said = words(response, frozenset())
    texts = [words(text, frozenset()) for text in histories]
    frequency = Counter(word for text in texts for word in text)
    return max((sum(math.log(len(texts) / frequency[word]) for word in said & text) for text in texts), default=0.0)


def rouge(responses: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """`{"rouge1", "rougeL"}`: mean F-measures over the rows, one reference each.

    Raises `NotEnoughDataError` where there is no row, or not one reference for each response.
    """
    _check_rows(responses, references)
    scorer = _rouge_scorer()
    scores = [scorer.score(reference, response) for response, reference in zip(responses, references, strict=True)]
    return {key: math.fsum(score[key].fmeasure for score in scores) / len(scores) for key in ("rouge1", "rougeL")}


def bleu(responses: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU-4 between 0 and 100 over one user's rows, one reference each.

    Raises `NotEnoughDataError` where there is no row, or not one reference for each response.
    """
    from sacrebleu.metrics import BLEU

    _check_rows(responses, references)
    return float(BLEU(effective_order=False).corpus_score(list(responses), [list(references)]).score)


def specificity(matrix: Mapping[str, Mapping[str, float]]) -> dict[str, Specificity]:
    """Per user, from `matrix[user][memory_of]` = loss of the user's test rows under the memory of `memory_of`.

    Raises `NotEnoughDataError` for a user without a loss under the own memory, or under no other.
    """
    found = {}
    for user, losses in matrix.items():
        others = [loss for memory_of, loss in losses.items() if memory_of != user]
        if user not in losses or not others:
            raise NotEnoughDataError(
                f"specificity of user {user!r} needs a loss under the own memory and under at least one other; "
                f"got memories of {sorted(losses)}. Next: score the user under the memories of two or more users."
            )
        own = losses[user]
        found[user] = Specificity(own_best=own < min(others), gap=math.fsum(others) / len(others) - own)
    return found


@cache
def _rouge_scorer() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=False)


def _check_rows(responses: Sequence[str], references: Sequence[str]) -> None:
    if not responses or len(responses) != len(references):
        raise NotEnoughDataError(
            f"got {len(responses)} responses and {len(references)} references; a text metric needs at least one row, "
            "and one reference for each response. Next: pass the rows of one user in the same order on both sides."
        )
