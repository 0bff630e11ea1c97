"""Metrics give the published test vectors and the values that can be worked out by hand."""

from __future__ import annotations

import math

import pytest

from imprint.errors import NotEnoughDataError
from imprint.evaluate.definitions import METRICS
from imprint.evaluate.metrics import Cover, bleu, persona_f1, rouge, specificity, words

HISTORY = ["i love hiking mountains", "my dog loves hiking trails", "coffee every morning"]
RESPONSE = "take your dog hiking"
STOP = frozenset({"i", "my", "your", "every"})


def test_persona_f1_gives_the_worked_example() -> None:
    """Two of three words of the response are among eight of the history."""
    known = words(" ".join(HISTORY), STOP)
    overlap = persona_f1(RESPONSE, known, STOP)
    assert overlap.precision == pytest.approx(2 / 3)
    assert overlap.recall == pytest.approx(1 / 4)
    assert overlap.f1 == pytest.approx(0.363636, abs=1e-6)


def test_p_cover_gives_the_worked_example() -> None:
    """The second text covers `dog` (in one of three texts) and `hiking` (in two)."""
    assert Cover(HISTORY).of(RESPONSE) == pytest.approx(1.504077, abs=1e-6)


def test_p_cover_takes_the_best_text_and_not_the_sum_of_all() -> None:
    """`coffee` and `dog` are in different texts, so only one of them counts."""
    assert Cover(HISTORY).of("coffee dog") == pytest.approx(math.log(3))


def test_the_papers_p_cover_is_divided_by_the_words_that_are_shared() -> None:
    """`coffee` alone weighs more than `dog` and `hiking` on average; in the released code it weighs less."""
    cover = Cover(HISTORY)
    assert cover.of(RESPONSE, mean=True) == pytest.approx(1.504077 / 2, abs=1e-6)
    assert cover.of("dog hiking coffee", mean=True) == pytest.approx(math.log(3))
    assert cover.of("dog hiking coffee") == pytest.approx(1.504077, abs=1e-6)


def test_a_text_that_is_said_again_is_another_document() -> None:
    """N and df are over all of the history: what a user says every day is no rare word of theirs."""
    cover = Cover([*HISTORY, "coffee every morning", "coffee every morning"])
    assert cover.of("coffee") == pytest.approx(math.log(5 / 3))
    assert cover.of("dog") == pytest.approx(math.log(5))


@pytest.mark.parametrize("response", ["", "the and of", "unheard words"])
def test_persona_f1_without_overlap_is_zero_and_never_a_division_by_zero(response: str) -> None:
    """Empty responses and responses of stop words only are ordinary outputs of a small model."""
    assert persona_f1(response, words("coffee every morning")).f1 == 0.0
    assert persona_f1(response, frozenset()).f1 == 0.0


def test_p_cover_without_history_is_zero() -> None:
    """A user without texts covers nothing."""
    assert Cover([]).of("coffee") == 0.0


def test_words_ignore_case_and_punctuation_and_drop_the_pieces_of_contractions() -> None:
    r"""The stop list knows what `\w+` leaves of "don't"."""
    assert words("I don't like TEA, Tea!") == {"like", "tea"}


def test_rouge_gives_values_worked_out_by_hand() -> None:
    """Three of four words match; the longest common subsequence is two of four, because the order is broken."""
    scores = rouge(["c a b x"], ["a b c d"])
    assert scores["rouge1"] == pytest.approx(0.75)
    assert scores["rougeL"] == pytest.approx(0.5)


def test_rouge_does_not_stem_and_is_a_mean_over_rows() -> None:
    """`walks` and `walking` differ; a perfect and an empty row give one half."""
    assert rouge(["walks"], ["walking"])["rouge1"] == 0.0
    assert rouge(["same words", ""], ["same words", "never said"])["rouge1"] == pytest.approx(0.5)


def test_bleu_gives_values_worked_out_by_hand() -> None:
    """Precisions 5/5, 4/4, 3/3, 2/2 and a brevity penalty of exp(1 - 6/5)."""
    assert bleu(["one two three four five"], ["one two three four five six"]) == pytest.approx(100 * math.exp(-0.2))
    assert bleu(["the same five words here"], ["the same five words here"]) == pytest.approx(100.0)


def test_bleu_without_effective_order_gives_a_short_corpus_nothing() -> None:
    """A corpus without one 4-gram has no BLEU-4, even where every word is right."""
    assert bleu(["two words"], ["two words"]) == 0.0


@pytest.mark.parametrize(("responses", "references"), [([], []), (["one"], []), (["one"], ["one", "two"])])
def test_text_metrics_refuse_rows_that_do_not_pair_up(responses: list[str], references: list[str]) -> None:
    """A silent zip would score the wrong rows."""
    for metric in (rouge, bleu):
        with pytest.raises(NotEnoughDataError, match="one reference for each response"):
            metric(responses, references)


def test_specificity_says_whose_memory_is_best_and_by_how_much() -> None:
    """User a is served best by the own memory; user b by a's; a tie is not a win."""
    found = specificity(
        {
            "a": {"a": 1.0, "b": 1.5, "c": 2.0},
            "b": {"a": 1.0, "b": 1.5, "c": 2.5},
            "c": {"a": 1.0, "b": 3.0, "c": 1.0},
        }
    )
    assert [found[user].own_best for user in "abc"] == [True, False, False]
    assert [found[user].gap for user in "abc"] == pytest.approx([0.75, 0.25, 1.0])


@pytest.mark.parametrize("losses", [{"a": 1.0}, {"b": 1.0, "c": 2.0}, {}])
def test_specificity_refuses_a_user_without_own_or_other_memory(losses: dict[str, float]) -> None:
    """One memory alone cannot be the best of all."""
    with pytest.raises(NotEnoughDataError, match="'a'"):
        specificity({"a": losses})


def test_every_metric_defines_itself() -> None:
    """A score is a record: the key is the name, and there is a definition and a version."""
    for key, metric in METRICS.items():
        assert key == metric.name
        assert metric.version
        assert metric.definition.endswith(".")
    assert METRICS["loss"].higher_is_better is False
    assert METRICS["rouge1"].higher_is_better is True
