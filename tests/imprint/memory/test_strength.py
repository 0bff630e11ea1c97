"""A memory's strength is chosen after training: the same weights, added more or less."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from toys import invented_rows, score_alone

from imprint.base.embedded import save_model
from imprint.base.load import load_pretrained
from imprint.data.atomic import read_manifest
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History, train_memories
from imprint.memory.peft_format import export_peft
from imprint.memory.serve import Server
from imprint.memory.settings import EarlyStopping, MemorySettings
from imprint.memory.store import MemoryStore
from imprint.memory.trainee import Job
from imprint.memory.trainer import train_memory
from imprint.memory.training import Training, trained_by
from imprint.memory.tried import TriedMemories
from imprint.memory.weights import remembering, site_updates

CONFIG = MemoryConfig(ranks=(2, 4), targets=("up", "down"), alpha_ratio=2.0, n_memories=2, learning_rate=2e-2, epochs=3)
HALF, MORE = (CONFIG.model_copy(update={"strength": strength}) for strength in (0.5, 1.5))


def rows(base, user="u1", count=12, seed=0):
    return base.encoder.examples(invented_rows(user, count, seed=seed))


@pytest.fixture
def memory(base):
    return train_memory(base, "u1", rows(base), CONFIG, 1).memory


def nats(scored):
    return [row.nats for row in scored]


def test_half_as_strong_is_half_the_update(memory):
    whole, half = site_updates(memory), site_updates(memory.at_strength(0.5))
    for name, update in whole.items():
        torch.testing.assert_close(half[name], update / 2)


def test_a_fleet_and_the_weights_and_peft_use_it_alike(base, memory, tmp_path):
    from peft import PeftModel

    half, asked = memory.at_strength(0.5), rows(base, seed=5)
    with remembering(base, half):
        merged = nats(score_alone(base.model, asked))
    together = Server(base, 2).score([half, memory] * len(asked), [row for row in asked for _ in range(2)])
    save_model(base.model, base.encoder.tokenizer, tmp_path / "base")
    export_peft(half, base.sites, str(tmp_path / "base"), tmp_path / "half")
    served = PeftModel.from_pretrained(load_pretrained(str(tmp_path / "base"))[0], tmp_path / "half")

    assert nats(together[::2]) == pytest.approx(merged, rel=1e-4)
    assert nats(score_alone(served.get_base_model(), asked)) == pytest.approx(merged, rel=1e-4)
    assert nats(together[1::2]) != pytest.approx(merged, rel=1e-2), "else nothing was looked at"


@pytest.mark.parametrize("stopping", [None, EarlyStopping(patience=1)])
@pytest.mark.parametrize("trainer", ["fleet", "one_user"])
def test_training_knows_nothing_of_it(llama, trainer, stopping):
    how = MemorySettings(fixed_config=CONFIG, trainer=trainer, early_stopping=stopping)
    made = []
    for config in (CONFIG, HALF):
        job = Job("u1", rows(llama), config, rows(llama, count=4, seed=3))
        (trained,) = Training(llama, how, 1).train([job])
        made.append(trained.memory)

    one, half = made
    assert (one.config, half.config) == (CONFIG, HALF)
    for mine, other in zip(one.episodes, half.episodes, strict=True):
        assert mine.epochs == other.epochs
        for name, factors in mine.factors.items():
            assert torch.equal(factors.a, other.factors[name].a)
            assert torch.equal(factors.b, other.factors[name].b)


@pytest.mark.parametrize("source", ["trial", "store"])
def test_what_is_the_same_but_for_its_strength_is_not_trained_again(llama, tmp_path, monkeypatch, source):
    how, given = MemorySettings(fixed_config=CONFIG, trainer="one_user"), [History("u1", 0, "f1", rows(llama))]
    trained = train_memory(llama, "u1", rows(llama), CONFIG, 1)
    chosen_by, others = {}, []
    if source == "trial":
        TriedMemories(tmp_path, "s1").keep(trained, "f1", trained_by(llama, how, 1))
        chosen_by = {"own_searches": ["s1"]}
    else:
        others = [train_memories(llama, given, {"u1": HALF}, 1, how, tmp_path, {"study": "tpe"})]
    monkeypatch.setattr("imprint.memory.training.train_memory", lambda *_: pytest.fail("trained again"))

    record = train_memories(llama, given, {"u1": MORE}, 1, how, tmp_path, chosen_by, others=others)

    found = MemoryStore(Path(record.path)).load("u1")
    assert read_manifest(Path(record.path))["taken"].keys() == {"u1"}
    assert found.config == MORE
    assert all(
        torch.equal(mine.factors[name].b, other.factors[name].b)
        for mine, other in zip(trained.memory.episodes, found.episodes, strict=True)
        for name in mine.factors
    )


def test_a_memory_without_a_strength_in_its_config_is_as_it_was_trained(llama, memory):
    """As stores have them that were written before there was one."""
    old = {key: value for key, value in memory.config.model_dump(mode="json").items() if key != "strength"}
    assert MemoryConfig(**old) == CONFIG
    assert replace(memory, config=MemoryConfig(**old)) == memory


@pytest.mark.parametrize("strength", [0, -1, 4.5])
def test_a_strength_that_forgets_or_drowns_the_base_is_refused(strength):
    with pytest.raises(ValidationError, match="strength"):
        MemoryConfig(**{**CONFIG.model_dump(), "strength": strength})
