"""A run says of itself what it reached; nothing that was not reached or not measured counts as held."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("bound", "at_least", "figure", "held"),
    [
        (6, True, 6.0, True),
        (6, True, 5.99, False),
        (0.01, False, 0.01, True),
        (0.01, False, 0.011, False),
        (6, True, float("nan"), False),
        (0.01, False, float("nan"), False),
        (None, True, 100.0, None),
    ],
)
def test_a_figure_is_held_against_its_bound_on_the_right_side(bound, at_least, figure, held):
    from aims import Aim

    assert Aim("key", "what", bound, at_least).held(figure) is held


def test_lines_and_json_say_held_and_missed_and_leave_out_what_was_not_measured():
    from aims import aim_lines, aim_numbers

    numbers = {"train_ratio_vs_trainer": 5.0, "generate_ratio_vs_peft": 4.5, "trials_ratio": 3.0, "unheard_of": 1.0}
    assert [(figure, remark) for _, figure, remark in aim_lines(numbers, "cpu")] == [
        ("5", "at least 6: missed"),
        ("3", "no aim was set"),
        ("4.5", "at least 4: held"),
    ]
    assert {key: one["held"] for key, one in aim_numbers(numbers, "cpu").items()} == {
        "train_ratio_vs_trainer": False,
        "trials_ratio": None,
        "generate_ratio_vs_peft": True,
    }


def test_a_card_is_held_against_the_published_figure():
    from aims import aim_lines

    assert aim_lines({"train_ratio_vs_trainer": 12.0}, "cuda")[0][2] == "at least 12.8: missed"
