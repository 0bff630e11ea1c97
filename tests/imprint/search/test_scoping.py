"""Cohorts: users grouped by what the base makes of their histories."""

import numpy as np
import pytest
import torch

from imprint.base.examples import Interaction
from imprint.search.objective import Pilot
from imprint.search.scoping import cohorts, history_vectors


@pytest.mark.parametrize("base", ["llama", "t5"], indirect=True)
def test_users_who_write_alike_are_in_one_cohort(base):
    """Two kinds of made-up writers, whose texts share no word."""
    encode = base.encoder.examples

    def writer(user, word):
        rows = [Interaction(user, f"{user}{n}", word, f"{word} {user} {word}") for n in range(6)]
        return Pilot(user, encode(rows), encode(rows[:1]))

    users = [writer("a", "apple"), writer("b", "river"), writer("c", "apple"), writer("d", "river")]

    labels = cohorts(history_vectors(base, users), 2, 1)

    assert labels[0] == labels[2] != labels[1] == labels[3]
    assert len(set(cohorts(history_vectors(base, users), 9, 1))) <= 4  # never more clusters than users


def test_a_users_vector_is_the_mean_over_their_own_tokens(llama):
    """However many tokens fill a step up: an odd number of them gives what Hugging Face's own states give."""
    rows = llama.encoder.examples([Interaction("a", f"a{n}", "green river", "a table " * (n + 1)) for n in range(3)])
    with torch.no_grad():
        states = [llama.model.model(torch.tensor([row.input_ids])).last_hidden_state[0] for row in rows]
    (vector,) = history_vectors(llama, [Pilot("a", rows, rows[:1])])
    np.testing.assert_allclose(vector, torch.cat(states).mean(0).numpy(), rtol=1e-4, atol=1e-5)
