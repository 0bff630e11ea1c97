"""What text metrics are computed by; what each means is in `definitions`.

They are averaged over the rows of one user here; `statistics` averages over users. Persona-F1 follows the set
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


class Cover:
    """The idf-weighted cover of a response by the texts of one user's history: P-Cover."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts` are the documents over which idf(w) = ln N / df(w) is counted, one that is there twice twice."""
        spoken = [words(text, frozenset()) for text in texts]
        frequency = Counter(word for text in spoken for word in text)
        self._idf = {word: math.log(len(spoken) / count) for word, count in frequency.items()}
        self._texts = list(dict.fromkeys(spoken))

    def of(self, response: str, mean: bool = False) -> float:
        """The largest sum of idf over the words that `response` shares with one text; 0 without any text.

        With `mean` that sum divided by the number of the shared words, as in DHAP's paper; its released code does not.
        A word that is in every text weighs nothing.
        """
        said = words(response, frozenset())
        shared = [said & text for text in self._texts]
        sums = (sum(self._idf[word] for word in some) / (len(some) if mean else 1) for some in shared if some)
        return max(sums, default=0.0)


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
