"""Every method weighs an answer exactly as it scores it as a response: the fast way is the slow way."""

from dataclasses import replace

import methods
import pytest
import torch
from families import KINDS

from imprint.base import answers as module
from imprint.base.answers import Answers, Needed
from imprint.base.settings import FitSettings
from imprint.memory.config import MemoryConfig
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
from imprint.personalizers.choosers import ByWords, Latest
from imprint.personalizers.persona_plug import PlugConditioner
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.protocol import question_of
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.settings import PlugSettings, UserLLMSettings
from imprint.personalizers.shared import taught, teach
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.personalizers.user_llm import UserLLMConditioner

FIT = FitSettings(learning_rate=1e-2, epochs=1, batch_rows=8)
CONFIG = MemoryConfig(ranks=(8,), targets=("up", "down"), alpha_ratio=4.0, n_memories=1, learning_rate=1e-2, epochs=2)
TEXTS = ("apple", "apple river", "stone", "cloud green quiet")


def remembered(base, folder):
    trained = [
        train_memory(base, user, base.encoder.examples(rows), CONFIG, 1) for user, rows in methods.histories().items()
    ]
    write_store(folder / "store", {0: [one.memory for one in trained]}, {})
    return Remembered("memory", base, MemoryStore(folder / "store"), 2)


def conditioned(base, folder, make, settings):
    """A taught method; its gates are opened, so that what stands beside the model is heard."""
    record = teach(make(base, settings, 1, folder), "toy", methods.histories(), settings, FIT, 1, folder)
    conditioner = make(base, settings, 1, folder)
    method = taught(conditioner, record)
    for block in getattr(conditioner.module, "blocks", ()):
        block.gate.data.fill_(2.0)
    return method


def user_llm(base, folder, **changes):
    settings = UserLLMSettings(width=16, layers=1, heads=2, latents=2, every=1, pretrain=FIT, fit=FIT, **changes)
    return conditioned(base, folder, UserLLMConditioner, settings)


MADE = {
    "pooled": lambda base, folder: Unpersonalised("pooled", base, 2),
    "recent_history": lambda base, folder: Prompted("recent_history", Unpersonalised("pooled", base, 2), Latest(), 30),
    "retrieval": lambda base, folder: Prompted("retrieval", Unpersonalised("pooled", base, 2), ByWords(2), 30),
    "memory": remembered,
    "memory+retrieval": lambda base, folder: Prompted("both", remembered(base, folder), ByWords(2), 30),
    "persona_plug": lambda base, folder: conditioned(base, folder, PlugConditioner, PlugSettings(augment=0, fit=FIT)),
    "user_llm": user_llm,
    "user_llm, soft": lambda base, folder: user_llm(base, folder, contextualise="soft_prompt"),
}


@pytest.mark.parametrize("rows", [256, 3])
@pytest.mark.parametrize("name", MADE)
def test_answers_are_weighed_as_they_are_scored(llama, tmp_path, name, rows, monkeypatch):
    """With few rows in a pass too, where the answers to one question are parted."""
    assert_weighed_as_scored(llama, tmp_path, name, rows, monkeypatch)


BESIDE = ("retrieval", "memory", "persona_plug", "user_llm", "user_llm, soft")
# cross-attention is refused on an encoder-decoder, as tests of that method show
IN_FAMILIES = [
    (kind, name)
    for kind in KINDS
    for name in BESIDE
    if kind != "llama" and not (kind.startswith("t5") and name == "user_llm")
]


@pytest.mark.parametrize(("base", "name"), IN_FAMILIES, indirect=["base"])
def test_in_every_family_answers_are_weighed_as_they_are_scored(base, tmp_path, name, monkeypatch):
    """What stands before or beside a prompt is heard at every step of an answer, T5's second stack included."""
    assert_weighed_as_scored(base, tmp_path, name, 256, monkeypatch)


def assert_weighed_as_scored(base, folder, name, rows, monkeypatch):
    for place in ("imprint.memory.serve", "imprint.personalizers.conditioned"):
        monkeypatch.setattr(f"{place}.ROWS_OF_ANSWERS", rows)
    monkeypatch.setattr(module, "ROWS", rows)
    method, asked = MADE[name](base, folder), methods.asked_rows(2)
    method.fit(methods.histories())

    found = method.likelihoods([question_of(row) for row in asked], Answers(TEXTS), [Needed()] * len(asked))

    scored = method.score([replace(row, response=text) for row in asked for text in TEXTS])
    expected = torch.tensor([-one.nats for one in scored]).view(len(asked), len(TEXTS))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
