"""Which trial is chosen: what few pilots gain by chance is no reason to leave a known config."""

import pytest

from imprint.errors import NotEnoughDataError
from imprint.memory.config import MemoryConfig
from imprint.search.journal import Trial
from imprint.search.selection import best_in, best_of, distinct, surest_first, surest_of

FIXED = MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=5e-3, epochs=1)


def trial(tid, losses, study="tpe", **config):
    """A trial of these losses, by user; none where it failed."""
    made = {**FIXED.model_dump(mode="json"), "learning_rate": 1e-3 * (tid + 1), **config}
    if not losses:
        return Trial(study=study, tid=tid, values={}, config=made, status="failed")
    per_user = {f"u{number}": loss for number, loss in enumerate(losses)}
    value = sum(losses) / len(losses)
    return Trial(study=study, tid=tid, values={}, config=made, status="ok", objective_value=value, per_user=per_user)


KNOWN = trial(0, (2.0, 3.0, 4.0, 5.0))
LUCKY = trial(1, (1.2, 3.1, 4.1, 5.1))  # gains 0.125 in the mean, by one user alone: its standard error is 0.225
STEADY = trial(2, (1.94, 2.96, 3.96, 4.94))  # gains 0.05, of everybody
WORSE = trial(3, (2.05, 3.05, 4.05, 5.05))


@pytest.mark.parametrize(
    ("standard_errors", "chosen"), [(0.0, [1, 2, 0, 3]), (1.0, [2, 0, 3, 1]), (100.0, [0, 3, 2, 1])]
)
def test_a_known_config_is_left_for_what_surely_gains(standard_errors, chosen):
    trials = [KNOWN, LUCKY, STEADY, WORSE]
    if standard_errors == 1.0:
        assert surest_of(trials, KNOWN, standard_errors).objective_value == STEADY.objective_value
    assert [one.tid for one in surest_first(trials, KNOWN, standard_errors)] == chosen


def test_users_differ_and_what_counts_is_how_their_gains_differ():
    """Losses of 2 to 5 are far apart; a gain that all of them have is as sure as one of equal users."""
    assert surest_of([KNOWN, STEADY], KNOWN, 3.0).tid == STEADY.tid


def test_with_one_pilot_or_without_a_known_trial_the_mean_decides():
    few = [trial(0, (2.0,)), trial(1, (1.9,))]
    assert surest_of(few, few[0], 1.0).tid == 1
    assert surest_of([KNOWN, LUCKY, STEADY], None, 1.0).tid == LUCKY.tid


def test_equal_trials_are_told_apart_by_their_number():
    again = KNOWN.model_copy(update={"tid": 4})
    assert [one.tid for one in surest_first([again, KNOWN], KNOWN, 1.0)] == [0, 4]


def test_what_is_known_of_a_config_is_its_best_strength():
    """Beside strength 1, whatever is scored at a better strength would seem to gain."""
    one, better, failed = (
        trial(0, losses, strength=strength) for losses, strength in (((2.0, 3.0), 1.0), ((1.9, 2.9), 0.5), ((), 0.25))
    )
    known = best_in(MemoryConfig(**one.config), [failed, one, STEADY, better])
    assert known == better
    assert surest_of([trial(1, (1.95, 2.95)), better], known, 1.0).tid == better.tid
    assert best_in(FIXED, [one, better]) is None


def test_failed_trials_are_no_choice_and_when_all_failed_the_error_says_so():
    failed = trial(5, ())
    assert surest_of([failed, WORSE], KNOWN, 1.0).tid == WORSE.tid
    with pytest.raises(NotEnoughDataError, match="all 1 trials failed"):
        surest_of([failed], KNOWN, 1.0)


def test_one_config_at_two_strengths_is_one_to_begin_at():
    stronger = trial(0, (1.9, 2.9, 3.9, 4.9), strength=2.0)
    assert list(distinct([stronger, KNOWN, STEADY, WORSE], 2).values()) == [stronger, STEADY]


@pytest.mark.parametrize(("min_gain", "chosen"), [(0.0, 3), (0.125, 3), (0.126, 1), (5.0, 1)])
def test_the_populations_config_is_left_only_for_a_gain_worth_the_name(min_gain, chosen):
    """The study begins at the population's config; its first good trial here is number 1, at 2.25, the lowest 2.125."""
    trials = [trial(tid, losses) for tid, losses in enumerate(((), (2.25,), (2.5,), (2.125,), (2.125,)))]
    assert best_of(trials, min_gain).tid == chosen
