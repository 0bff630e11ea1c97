"""Memories into a store when something goes wrong: a training that diverges, another run at the same work."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import invented_rows

from imprint.base.settings import FitSettings, PooledSettings
from imprint.errors import TrainingDivergedError
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History, train_memories
from imprint.memory.pooled import pool
from imprint.memory.settings import FleetSettings, MemorySettings

CONFIG = MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=2, learning_rate=5e-3, epochs=1)
USERS = ("u1", "u2")


def into_a_store(base, users, workspace, trainer="fleet", crew=64, on_user=lambda done, users: None):
    given = [History(user, 0, user, base.encoder.examples(invented_rows(user, 10))) for user in users]
    memory = MemorySettings(fixed_config=CONFIG, trainer=trainer, fleet=FleetSettings(crew=crew))
    return train_memories(base, given, dict.fromkeys(users, CONFIG), 1, memory, workspace, {"tid": 3}, on_user)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def broken(llama):
    """The same base, whose tokens lead to no number."""
    model = deepcopy(llama.model)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.inf)
    return replace(llama, model=model)


@pytest.mark.parametrize("trainer", ["one_user", "fleet"])
def test_a_training_that_diverged_is_an_error_that_names_the_user_and_leaves_no_store(broken, tmp_path, trainer):
    """A finished store of weights without a meaning would be found again by every later run."""
    with pytest.raises(
        TrainingDivergedError, match=r"for 2 of 2 users, .* u1 in .*\"learning_rate\":0.005.* Next: lower"
    ):
        into_a_store(broken, USERS, tmp_path, trainer)
    assert files_in(tmp_path) == []


def test_a_pooled_stage_that_diverged_is_no_base(broken, tmp_path):
    settings = PooledSettings(fit=FitSettings(learning_rate=2e-3, epochs=1))
    with pytest.raises(TrainingDivergedError, match=r"pooled\.fit\.learning_rate: 0\.002 given.* Next"):
        pool(broken, invented_rows("u1", 8), settings, 1, tmp_path)
    assert files_in(tmp_path) == []


def test_of_two_agreeing_runs_the_second_takes_what_the_first_has_finished(llama, tmp_path):
    """The first removes the parts that the second still adds to."""
    records = []

    def meanwhile(done, users):
        if not records:
            records.append(None)
            records[0] = into_a_store(llama, USERS, tmp_path, crew=1)

    second = into_a_store(llama, USERS, tmp_path, crew=1, on_user=meanwhile)

    assert records == [second]
    assert [path.name for path in tmp_path.iterdir()] == [Path(second.path).name]


def test_a_shard_whose_users_are_all_pilots_has_a_store_of_nobody(llama, tmp_path):
    record = into_a_store(llama, (), tmp_path)
    assert (record.seconds, record.configs) == ({}, 0)
    assert into_a_store(llama, (), tmp_path) == record
