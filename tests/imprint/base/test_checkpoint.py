"""A training that was killed goes on where it was, and ends with the weights of one that never was, bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from toys import in_use, invented_rows, tiny_model

from imprint.base import checkpoint as module
from imprint.base.checkpoint import Checkpoint, Done
from imprint.base.fit import fit
from imprint.base.load import load_base, prepare_base
from imprint.base.settings import BaseSettings, EmbeddedSettings, FitSettings, PooledSettings
from imprint.errors import StoreError
from imprint.memory.pooled import pool

SETTINGS = FitSettings(learning_rate=1e-2, epochs=3, batch_rows=8, weight_decay=0.01, clip_norm=0.5)
EMBEDDED = BaseSettings(
    max_query_tokens=16, max_response_tokens=16, embedded=EmbeddedSettings(size="tiny", fit=SETTINGS)
)
POOLED = PooledSettings(rank=4, fit=SETTINGS)
ROWS = invented_rows("u1", 40)


class KilledError(Exception):
    """What stands for SIGKILL here: nothing of ours catches it."""


class Watch:
    """A progress callback that counts the steps, and raises at step `at`."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.steps = at, []

    def __call__(self, step: int, steps: int) -> None:
        self.steps.append((step, steps))
        if step == self.at:
            raise KilledError


@pytest.fixture(autouse=True)
def _every_step(monkeypatch):
    """A checkpoint a step, however quick the steps are."""
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)


@pytest.fixture
def trained(tokenizer):
    """Trains two weights of one and the same model; with a checkpoint or without."""

    def run(checkpoint=None, watch=None):
        base = in_use(tiny_model("llama", tokenizer), tokenizer)
        names = ("model.layers.1.mlp.down_proj", "model.layers.2.mlp.up_proj")
        weights = [base.model.get_submodule(name).weight.requires_grad_(True) for name in names]
        examples = base.encoder.examples(ROWS)
        fitted = fit(base.model, weights, examples, SETTINGS, 5, watch or Watch(), checkpoint=checkpoint)
        return [weight.detach() for weight in weights], fitted

    return run


@pytest.mark.parametrize("killed_at", [(1,), (7,), (14,), (4, 9)], ids=str)
def test_a_killed_training_ends_with_the_same_weights(trained, tmp_path, killed_at):
    """At the first step, in the middle, before the last, and twice."""
    whole, expected = trained()
    for at in killed_at:
        with pytest.raises(KilledError):
            trained(Checkpoint(tmp_path / "c"), Watch(at))

    watch = Watch()
    weights, fitted = trained(Checkpoint(tmp_path / "c"), watch)

    assert all(torch.equal(*pair) for pair in zip(weights, whole, strict=True))
    assert fitted._replace(seconds=0) == expected._replace(seconds=0)
    assert watch.steps == [(step, 15) for step in range(killed_at[-1] + 1, 16)]


def test_a_training_killed_after_its_last_step_is_not_done_again(trained, tmp_path):
    """What was trained was not kept yet."""
    whole, expected = trained()
    with pytest.raises(KilledError):
        trained(Checkpoint(tmp_path / "c"), Watch(15))
    weights, fitted = trained(Checkpoint(tmp_path / "c"), watch := Watch())
    assert watch.steps == []
    assert all(torch.equal(*pair) for pair in zip(weights, whole, strict=True))
    assert (fitted.steps, fitted.tokens, fitted.final_loss) == (15, expected.tokens, expected.final_loss)


def test_what_is_counted_goes_on_too(tmp_path):
    """Steps, tokens, losses and seconds of the killed run are in the outcome."""
    weight = torch.zeros(2, 3, requires_grad=True)
    optimiser = torch.optim.AdamW([weight])
    weight.grad = torch.ones(2, 3)
    optimiser.step()
    done = Done(steps=1, tokens=12, seconds=1000.0, losses=[torch.tensor(2.5)])
    Checkpoint(tmp_path / "c").keep_if_due([weight], optimiser, done)

    again = torch.zeros(2, 3, requires_grad=True)
    other = torch.optim.AdamW([again])
    found = Checkpoint(tmp_path / "c").restore([again], other)

    assert found == done
    assert torch.equal(again, weight)
    for key, moment in optimiser.state[weight].items():
        assert torch.equal(other.state[again][key], moment), key


def test_seconds_add_up(trained, tmp_path, monkeypatch):
    with pytest.raises(KilledError):
        trained(Checkpoint(tmp_path / "c"), Watch(3))
    honest = Checkpoint.restore

    def long_ago(self, weights, optimiser):
        done = honest(self, weights, optimiser)
        done.seconds += 1000
        return done

    monkeypatch.setattr(Checkpoint, "restore", long_ago)
    assert trained(Checkpoint(tmp_path / "c"))[1].seconds > 1000


def test_nothing_is_written_before_it_is_due(trained, tmp_path, monkeypatch):
    """A short training pays nothing."""
    monkeypatch.setattr(module, "EVERY_SECONDS", 1e9)
    trained(Checkpoint(tmp_path / "c"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 3)], [(3, 2)], []], ids=["one more", "another shape", "none"])
def test_a_checkpoint_of_other_weights_is_refused(tmp_path, shapes):
    weight = torch.zeros(2, 3)
    optimiser = torch.optim.AdamW([weight])
    Checkpoint(tmp_path / "c").keep_if_due([weight], optimiser, Done(losses=[torch.tensor(1.0)]))
    others = [torch.zeros(shape) for shape in shapes] or [torch.zeros(0)]
    with pytest.raises(StoreError, match=r"checkpoint .*c holds 1 weights.*delete that file"):
        Checkpoint(tmp_path / "c").restore(others, optimiser)
    assert all(not other.any() for other in others)


def base_of(workspace, watch=None, settings=EMBEDDED):
    return prepare_base(ROWS, settings, 7, workspace, watch or Watch())


def pooled_of(workspace, watch=None, settings=POOLED):
    base = load_base(prepare_base(ROWS, EMBEDDED, 7, workspace / "base"), EMBEDDED)
    return pool(base, ROWS, settings, 7, workspace, watch or Watch())


def other(settings):
    """The settings with one number changed."""
    if settings is POOLED:
        return POOLED.model_copy(update={"alpha_ratio": 1.0})
    fewer = SETTINGS.model_copy(update={"learning_rate": 1e-3})
    return EMBEDDED.model_copy(update={"embedded": EMBEDDED.embedded.model_copy(update={"fit": fewer})})


@pytest.mark.parametrize(("make", "settings"), [(base_of, EMBEDDED), (pooled_of, POOLED)], ids=["base", "pooled"])
def test_a_killed_stage_goes_on_and_leaves_no_checkpoint(tmp_path, make, settings):
    """The embedded base, and the pooled LoRA on it; the fingerprint is over every weight."""
    expected = make(tmp_path / "whole")
    with pytest.raises(KilledError):
        make(tmp_path / "killed", Watch(6))
    (checkpoint,) = (tmp_path / "killed").glob("*.checkpoint")

    strange = Watch()
    make(tmp_path / "killed", strange, other(settings))
    assert strange.steps[0][0] == 1  # another setting does not go on from there
    assert checkpoint.is_file()

    watch = Watch()
    found = make(tmp_path / "killed", watch)

    assert [step for step, _ in watch.steps] == list(range(7, 16))
    assert found.fingerprint == expected.fingerprint
    counted = [{key: value for key, value in one.training.items() if key != "seconds"} for one in (found, expected)]
    assert counted[0] == counted[1]
    assert list((tmp_path / "killed").glob("*.checkpoint")) == []


@pytest.mark.parametrize("make", [base_of, pooled_of], ids=["base", "pooled"])
def test_a_checkpoint_beside_a_finished_model_goes(tmp_path, make):
    """Of a run that was killed between the two; and half a checkpoint, of one killed while it wrote."""
    folder = make(tmp_path).path
    for name in (f"{Path(folder).name}.checkpoint", f".{Path(folder).name}.checkpoint.elsewhere-1-0123456789ab.tmp"):
        (tmp_path / name).write_bytes(b"left")
        os.utime(tmp_path / name, (0, 0))
    make(tmp_path)
    assert [file.name for file in tmp_path.iterdir() if "checkpoint" in file.name] == []
