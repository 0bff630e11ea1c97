"""A budget of training tokens, spread over users by the number of their passes."""

import pytest
from toys import invented_rows

from imprint.errors import SettingsError
from imprint.memory.budget import within_budget
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History


def config(epochs):
    return MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=1.0, n_memories=1, learning_rate=1e-3, epochs=epochs)


@pytest.fixture
def histories(llama):
    return [History(user, 0, "", llama.encoder.examples(invented_rows(user, 9))) for user in ("u1", "u2")]


def tokens(histories, epochs):
    return sum(epochs[one.user_id] * len(example.input_ids) for one in histories for example in one.examples)


def test_epochs_are_cut_for_those_who_have_too_many_and_for_nobody_else(histories):
    configs = {"u1": config(2), "u2": config(9)}
    once = tokens(histories, {"u1": 1, "u2": 1})

    kept, spent = within_budget(histories, configs, 3 * once + 5, ("u1", "u2"))

    assert {user: one.epochs for user, one in kept.items()} == {"u1": 2, "u2": 3}
    assert spent == tokens(histories, {"u1": 2, "u2": 3}) <= 3 * once + 5
    assert kept["u2"].model_copy(update={"epochs": 9}) == configs["u2"]
    assert within_budget(histories, configs, 100 * once, ("u1", "u2"))[0] == configs


def test_a_strength_found_with_all_epochs_goes_with_the_epochs(histories):
    configs = {user: config(epochs).model_copy(update={"strength": 1.5}) for user, epochs in (("u1", 2), ("u2", 9))}

    kept, _ = within_budget(histories, configs, 3 * tokens(histories, {"u1": 1, "u2": 1}), ("u1", "u2"))

    assert {user: one.strength for user, one in kept.items()} == {"u1": 1.5, "u2": 1.0}


def test_less_than_one_pass_is_refused_with_what_is_needed(histories):
    once = tokens(histories, {"u1": 1, "u2": 1})
    configs = dict.fromkeys(("u1", "u2"), config(1))
    assert within_budget(histories, configs, once, ("u1", "u2"))[1] == once
    with pytest.raises(SettingsError, match=rf"budget_tokens: {once - 1} .* takes {once}"):
        within_budget(histories, configs, once - 1, ("u1", "u2"))


def test_who_is_not_compared_costs_nothing_and_has_no_more_epochs(histories):
    """Pilots have memories, and are not measured: their rows must not shorten what the others train."""
    configs = {"u1": config(9), "u2": config(9)}
    mine = tokens(histories[:1], {"u1": 1})

    kept, spent = within_budget(histories, configs, 3 * mine, ("u1",))

    assert {user: one.epochs for user, one in kept.items()} == {"u1": 3, "u2": 3}
    assert spent == 3 * mine
