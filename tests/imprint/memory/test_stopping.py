"""Early stopping (`memory.early_stopping`): each user on their own validation rows, the same in both trainers."""

import math
import random
from types import SimpleNamespace

import pytest
import torch
from fleets import BATCH_ROWS, CLOSE, SEED, assert_same_memory, bits, config, factors_of, fleet, job, threads
from toys import in_use, invented_rows, score_alone, tiny_model

from imprint.base.fit import batches, fit
from imprint.base.loss import mean_loss
from imprint.base.settings import FitSettings
from imprint.errors import SettingsError
from imprint.memory.settings import EarlyStopping
from imprint.memory.stopping import Watch
from imprint.memory.trainer import JUDGED_TOGETHER, _peft_model, _start_episode, train_memory
from imprint.memory.weights import cut_into_episodes, remembering
from imprint.provenance import seed_for

pytestmark = pytest.mark.usefixtures("one_lane")

PATIENT = EarlyStopping(patience=1)
FAST = config((0, 2, 4), ("up", "down"), 2.0, 1, 8e-3, 9)
USERS = [
    # user, rows of history, rows of validation (of the same user, or of a stranger), config
    ("u1", 17, ("u1", 5), FAST),
    ("u2", 9, ("somebody", 19), FAST),
    ("u3", 12, ("u3", 6), config((2,), ("down",), 2.0, 3, 3e-2, 7)),
    ("u4", 8, ("u4", 0), FAST),
    ("u5", 17, ("somebody", 9), config((0, 2, 4), ("up", "down"), 2.0, 1, 2e-3, 9)),
]


def watched_job(base, user_id, rows, validation, its_config):
    whose, count = validation
    return job(base, user_id, rows, its_config, base.encoder.examples(invented_rows(whose, count, seed=1)))


def train_alone(base, one, patience=PATIENT):
    return train_memory(base, one.user_id, one.examples, one.config, SEED, BATCH_ROWS, one.validation, patience)


def epochs_of(trained):
    return [episode.epochs for episode in trained.memory.episodes]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def stopping(request, tokenizer):
    """One base of each family, users who stop at unlike epochs, and what the one-user trainer makes of each."""
    base = in_use(tiny_model(request.param, tokenizer), tokenizer)
    jobs = [watched_job(base, *one) for one in USERS]
    return SimpleNamespace(base=base, jobs=jobs, oracle=[train_alone(base, one) for one in jobs])


def test_users_of_this_test_stop_at_unlike_epochs(stopping):
    """Some early, some never, and the episodes of one user at epochs of their own."""
    found = {one.user_id: epochs_of(trained) for one, trained in zip(stopping.jobs, stopping.oracle, strict=True)}
    assert found["u4"] == [9]  # no validation rows: all epochs
    assert 1 < found["u1"][0] < 9
    assert len({tuple(epochs) for epochs in found.values()}) >= 3
    assert len(set(found["u3"])) > 1


def test_a_fleet_stops_where_the_one_user_trainer_stops(stopping):
    results = fleet(stopping.base, early_stopping=PATIENT).train(stopping.jobs)

    for got, wanted in zip(results, stopping.oracle, strict=True):
        assert epochs_of(got) == epochs_of(wanted)
        assert_same_memory(got, wanted)
        for ours, theirs in zip(got.fitted, wanted.fitted, strict=True):
            assert (ours.steps, ours.tokens) == (theirs.steps, theirs.tokens)
            assert ours.final_loss == pytest.approx(theirs.final_loss, rel=CLOSE)


@pytest.mark.parametrize(("slots", "crew", "lanes"), [(1, 1, 1), (2, 3, 2), (8, 8, 1)])
def test_company_order_slots_and_lanes_change_nothing(stopping, slots, crew, lanes):
    strangers = [watched_job(stopping.base, f"stranger-{n}", 4 + 5 * n, (f"s{n}", n), FAST) for n in range(2)]
    order = [*enumerate(stopping.jobs), *((None, one) for one in strangers)]
    random.Random(slots).shuffle(order)
    seen = []

    with threads(lanes):
        one_fleet = fleet(stopping.base, slots, crew, early_stopping=PATIENT)
        results = one_fleet.train([one for _, one in order], lambda *one: seen.append(one))
        again = one_fleet.train([one for _, one in order])

    assert seen == [(number, len(order)) for number in range(1, len(order) + 1)]
    for (place, _), got in zip(order, results, strict=True):
        if place is not None:
            assert_same_memory(got, stopping.oracle[place])
            assert epochs_of(got) == epochs_of(stopping.oracle[place])
    assert all(torch.equal(a, b) for a, b in zip(bits(results), bits(again), strict=True))


def test_what_is_kept_is_the_best_of_all_epochs_by_hand(stopping):
    """Every epoch's weights and its loss, a row at a time; training goes on as planned, whatever the losses."""
    base, one = stopping.base, stopping.jobs[0]
    plan = FitSettings(learning_rate=one.config.learning_rate, epochs=one.config.epochs, batch_rows=BATCH_ROWS)
    model = _peft_model(base, one.config)
    weights = _start_episode(model, base, one.config, SEED, one.user_id, 0)
    epochs = []

    def look():
        copies = {name: [part.detach().clone() for part in pair] for name, pair in weights.items()}
        epochs.append((mean_loss(score_alone(base.model, one.validation)), copies))
        return False

    parts = [part for pair in weights.values() for part in pair]
    fit(base.model, parts, one.examples, plan, seed_for(SEED, "order", one.user_id, 0), on_epoch=look)
    model.unload()
    base.model.requires_grad_(False)
    losses = [loss for loss, _ in epochs]
    best = losses.index(min(losses))

    kept = train_alone(base, one, EarlyStopping(patience=99))

    assert len(losses) == 9
    assert 0 < best < 8  # neither the first nor the last, or this test would say nothing
    assert epochs_of(kept) == [best + 1]
    for (_, name, which), factor in factors_of(kept).items():
        torch.testing.assert_close(factor, epochs[best][1][name]["ab".index(which)], rtol=0, atol=0)
    with remembering(base, kept.memory):
        assert mean_loss(score_alone(base.model, one.validation)) == pytest.approx(min(losses), rel=1e-5)


def test_both_trainers_are_told_the_loss_of_all_validation_rows(stopping, monkeypatch):
    """After every epoch, in nats a response token; here of more rows than go through in one pass."""
    one, told = stopping.jobs[1], []
    note = Watch.note
    monkeypatch.setattr(Watch, "note", lambda self, loss, weights: told.append(loss) or note(self, loss, weights))
    patience = EarlyStopping(patience=99)

    kept = train_alone(stopping.base, one, patience)
    alone = told[:]
    told.clear()
    fleet(stopping.base, early_stopping=patience).train([one])

    assert len(one.validation) > JUDGED_TOGETHER
    assert len(alone) == one.config.epochs
    assert told == pytest.approx(alone, rel=1e-5)
    with remembering(stopping.base, kept.memory):
        assert min(alone) == pytest.approx(mean_loss(score_alone(stopping.base.model, one.validation)), rel=1e-5)


def test_training_goes_on_for_as_many_epochs_as_it_is_patient(stopping):
    """Until so many epochs in a row bring no better loss; the epochs after the best one are trained and thrown away."""
    one = stopping.jobs[0]
    an_epoch = math.ceil(len(one.examples) / BATCH_ROWS)
    for patience in (1, 3):
        kept = train_alone(stopping.base, one, EarlyStopping(patience=patience))
        assert kept.fitted[0].steps == an_epoch * min(epochs_of(kept)[0] + patience, 9)


def test_off_is_what_it_was(stopping):
    """Validation rows that nobody asks for change nothing, in either trainer."""
    plain = [job(stopping.base, user, rows, its_config) for user, rows, _, its_config in USERS]
    off = fleet(stopping.base).train(stopping.jobs)

    for got, one, with_rows in zip(off, plain, stopping.jobs, strict=True):
        wanted = train_alone(stopping.base, one, None)
        assert_same_memory(got, wanted)
        assert epochs_of(got) == epochs_of(wanted) == [one.config.epochs] * one.config.n_memories
        alone = train_alone(stopping.base, with_rows, None)
        assert all(torch.equal(a, b) for a, b in zip(bits([alone]), bits([wanted]), strict=True))


def test_another_users_validation_rows_stop_nobody_else(stopping):
    """Each job is judged on its own rows: exchanging those of one changes that one alone."""
    of_strangers = (watched_job(stopping.base, "u1", 17, ("somebody", rows), FAST) for rows in range(1, 20))
    as_before = epochs_of(stopping.oracle[0])
    ends_elsewhere = next(one for one in of_strangers if epochs_of(train_alone(stopping.base, one)) != as_before)
    changed = [ends_elsewhere, *stopping.jobs[1:]]

    results = fleet(stopping.base, early_stopping=PATIENT).train(changed)

    with pytest.raises(AssertionError):
        assert_same_memory(results[0], stopping.oracle[0])
    for got, wanted in zip(results[1:], stopping.oracle[1:], strict=True):
        assert_same_memory(got, wanted)


def weight(value):
    return [torch.full((2,), float(value))]


def test_a_watch_keeps_the_best_epoch_and_counts_since_then():
    watch = Watch(patience=2)
    over = []
    for number, loss in enumerate((3.0, 2.0, 2.5, 1.9, 1.9, 2.0), start=1):
        watch.note(loss, weight(number))
        over.append(watch.over)
    now = weight(6)
    watch.restore(now)

    assert over == [False, False, False, False, False, True]  # an equal loss is no better one
    assert watch.best_epoch == 4
    assert now[0].tolist() == [4.0, 4.0]


def test_a_watch_keeps_copies():
    """Training goes on in the same tensors."""
    watch, now = Watch(patience=1), weight(1)
    watch.note(1.0, now)
    now[0].add_(1)
    watch.restore(now)
    assert now[0].tolist() == [1.0, 1.0]


def test_losses_that_are_no_numbers_are_never_the_best():
    watch = Watch(patience=2)
    watch.note(float("nan"), weight(1))
    watch.note(1.0, weight(2))
    watch.note(float("nan"), weight(3))
    watch.note(float("nan"), weight(4))
    now = weight(4)
    watch.restore(now)
    assert (watch.best_epoch, watch.over, now[0].tolist()) == (2, True, [2.0, 2.0])

    nothing, now = Watch(patience=1), weight(1)
    nothing.note(float("nan"), now)
    nothing.restore(now)
    assert (nothing.best_epoch, nothing.over, now[0].tolist()) == (1, True, [1.0, 1.0])  # as it diverged


def test_epochs_end_where_the_plan_says(llama):
    """`on_epoch` comes after every pass over the rows, and once it says so no step is done."""
    examples = llama.encoder.examples(invented_rows("u1", 37))
    settings = FitSettings(learning_rate=1e-3, epochs=3, batch_rows=8)
    seen, steps = [], []
    weight_of = llama.model.get_submodule("model.layers.1.mlp.down_proj").weight.requires_grad_(True)

    def second_is_the_last():
        seen.append(len(steps))
        return len(seen) == 2

    fitted = fit(
        llama.model, [weight_of], examples, settings, 5, lambda step, _: steps.append(step), second_is_the_last
    )

    assert seen == [5, 10]
    assert fitted.steps == len(steps) == 10
    first = [row for batch in list(batches(examples, settings, 5))[:5] for row in batch]
    assert sorted(row.record_id for row in first) == sorted(row.record_id for row in examples)


@pytest.mark.parametrize("patience", [0, -1, "soon"])
def test_patience_of_no_epoch_is_refused(patience):
    with pytest.raises((ValueError, SettingsError), match="patience"):
        EarlyStopping(patience=patience)


def test_episodes_of_a_history_are_judged_on_all_validation_rows(stopping):
    """A user's validation rows are of the time after the history; every episode is judged on all of them."""
    one = stopping.jobs[2]
    first_rows = cut_into_episodes(one.examples, 3)[0]
    alone = train_memory(
        stopping.base,
        one.user_id,
        first_rows,
        one.config.model_copy(update={"n_memories": 1}),
        SEED,
        BATCH_ROWS,
        one.validation,
        PATIENT,
    )
    whole = stopping.oracle[2]
    assert epochs_of(whole)[0] == epochs_of(alone)[0]
    for name, factors in alone.memory.episodes[0].factors.items():
        assert torch.equal(factors.b, whole.memory.episodes[0].factors[name].b)
