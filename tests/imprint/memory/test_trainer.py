"""The one-user trainer against plain PyTorch, and what a user's memory may depend on (invariants 1 and 3)."""

from copy import deepcopy

import pytest
import torch
from families import every_family, logits_of_response
from torch.func import functional_call
from toys import in_use, invented_rows, score_alone, tiny_model

from imprint.base.examples import collate
from imprint.base.loss import mean_loss, nats_per_row
from imprint.errors import IncompatibleBaseError, MemoryConfigError
from imprint.memory.config import MemoryConfig
from imprint.memory.trainer import _peft_model, _start_episode, train_memory
from imprint.memory.weights import Memory, cut_into_episodes, remembering, site_updates

CONFIG = MemoryConfig(
    ranks=(0, 2, 4), targets=("gate", "up", "down"), alpha_ratio=2.0, n_memories=2, learning_rate=1e-2, epochs=3
)


def weights_of(memory):
    return [factor for episode in memory.episodes for factors in episode.factors.values() for factor in factors]


def naive_loss(base, examples, pairs, alpha_ratio):
    """Some lines of plain PyTorch: W + alpha_ratio · B A in place of W, at every site that carries a LoRA."""
    transposed = {site.name: site.transposed for site in base.sites}
    changed = {}
    for name, (a, b) in pairs.items():
        update = alpha_ratio * (b @ a)
        changed[f"{name}.weight"] = base.model.get_submodule(name).weight + (update.T if transposed[name] else update)

    def run(**given):
        return functional_call(base.model, changed, (), given)

    loss = 0
    for one in examples:
        chosen = logits_of_response(base.model, one, run).log_softmax(-1)
        loss = loss - chosen.gather(1, torch.tensor(one.input_ids[one.response_start :])[:, None]).sum()
    return loss


@every_family
def test_forward_and_gradients_equal_plain_pytorch(base):
    """The PEFT model of an episode, with B ≠ 0, against `naive_loss`: loss and the gradient of every A and B."""
    examples, plain = base.encoder.examples(invented_rows("u1", 6)), deepcopy(base)
    config = CONFIG.model_copy(update={"n_memories": 1})
    model = _peft_model(base, config)
    pairs = _start_episode(model, base, config, 1, "u1", 0)
    with torch.no_grad():
        for _, b in pairs.values():
            b.copy_(torch.randn(b.shape, generator=torch.Generator().manual_seed(5)) * 0.5)
    copies = {name: tuple(one.detach().clone().requires_grad_(True) for one in pair) for name, pair in pairs.items()}

    ours = nats_per_row(base.model, collate(examples)).sum()
    naive = naive_loss(plain, examples, copies, config.alpha_ratio)
    ours.backward()
    naive.backward()

    torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-5)
    for name, pair in pairs.items():
        for mine, theirs in zip(pair, copies[name], strict=True):
            assert (mine.grad - theirs.grad).norm() < 1e-3 * theirs.grad.norm(), name
    # the comparison can fail: another scale is another gradient
    wrong = naive_loss(plain, examples, copies, config.alpha_ratio * 1.1)
    assert abs(wrong - ours) > 1e-3


@every_family
def test_a_memory_that_was_never_trained_leaves_the_bases_logits(base):
    """B = 0 at the start."""
    examples = base.encoder.examples(invented_rows("u1", 4))
    before = score_alone(base.model, examples)
    model = _peft_model(base, CONFIG)
    _start_episode(model, base, CONFIG, 1, "u1", 0)

    assert score_alone(base.model, examples) == before
    model.unload()


@every_family
def test_training_learns_the_user_and_leaves_the_base_as_it_was(base):
    rows = base.encoder.examples(invented_rows("u1", 40))
    before = score_alone(base.model, rows)

    memory = train_memory(base, "u1", rows[:30], CONFIG, seed=1).memory

    assert score_alone(base.model, rows) == before
    assert not any(weight.requires_grad for weight in base.model.parameters())
    with remembering(base, memory):
        assert mean_loss(score_alone(base.model, rows[30:])) < mean_loss(before[30:]) - 0.02
    assert score_alone(base.model, rows) == before


def test_what_is_trained_is_what_is_remembered(base):
    """The loss while PEFT's layers are in place equals the loss with the factors added into the weights."""
    rows = base.encoder.examples(invented_rows("u1", 24))
    trained = train_memory(base, "u1", rows, CONFIG, seed=1)
    model = _peft_model(base, CONFIG)
    for number, episode in enumerate(trained.memory.episodes):
        pairs = _start_episode(model, base, CONFIG, 1, "u1", number)
        with torch.no_grad():
            for name, pair in pairs.items():
                for parameter, factor in zip(pair, episode.factors[name], strict=True):
                    parameter.copy_(factor)
    through_peft = mean_loss(score_alone(base.model, rows))
    model.unload()

    with remembering(base, trained.memory):
        assert mean_loss(score_alone(base.model, rows)) == pytest.approx(through_peft, rel=1e-5)


def test_a_memory_depends_on_its_own_user_seed_and_rows_alone(llama):
    """Trained after a stranger or before, whatever the global random state: bit for bit the same."""
    mine, other = (llama.encoder.examples(invented_rows(user, 20)) for user in ("u1", "u2"))

    first = train_memory(llama, "u1", mine, CONFIG, seed=1).memory
    train_memory(llama, "u2", other, CONFIG, seed=1)
    torch.manual_seed(99)
    second = train_memory(llama, "u1", mine, CONFIG, seed=1).memory

    assert all(torch.equal(a, b) for a, b in zip(weights_of(first), weights_of(second), strict=True))
    for changed in (
        train_memory(llama, "u1", mine, CONFIG, seed=2).memory,
        train_memory(llama, "u2", mine, CONFIG, seed=1).memory,
        train_memory(llama, "u1", other, CONFIG, seed=1).memory,
    ):
        assert not any(torch.equal(a, b) for a, b in zip(weights_of(first), weights_of(changed), strict=True))


def test_episodes_are_stretches_of_time_and_the_earlier_ones_are_frozen(llama):
    rows = llama.encoder.examples(invented_rows("u1", 31))
    both = train_memory(llama, "u1", rows, CONFIG, seed=1).memory
    first_alone = train_memory(llama, "u1", rows[:15], CONFIG.model_copy(update={"n_memories": 1}), seed=1).memory

    assert [episode.rows for episode in both.episodes] == [15, 16]
    first = first_alone.episodes[0].factors
    assert all(torch.equal(both.episodes[0].factors[name].a, first[name].a) for name in first)
    assert all(torch.equal(both.episodes[0].factors[name].b, first[name].b) for name in first)


def test_the_second_episode_is_trained_with_the_first_one_present(llama):
    """Training the second stretch on the bare base gives other weights."""
    rows = llama.encoder.examples(invented_rows("u1", 30))
    present = train_memory(llama, "u1", rows, CONFIG, seed=1).memory.episodes[1]
    one = CONFIG.model_copy(update={"n_memories": 1})
    absent = train_memory(llama, "u1", rows[15:], one, seed=1).memory.episodes[0]

    assert present.row_fingerprint == absent.row_fingerprint
    name = next(iter(present.factors))
    assert not torch.allclose(present.factors[name].b, absent.factors[name].b)


def test_cutting_keeps_order_and_loses_nothing():
    for count in (1, 2, 3, 4):
        cut = cut_into_episodes(list(range(11)), count)
        assert [row for stretch in cut for row in stretch] == list(range(11))
        assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_fewer_rows_than_episodes_is_refused(llama):
    with pytest.raises(MemoryConfigError, match=r"n_memories: 2.*u1, who has 1"):
        train_memory(llama, "u1", llama.encoder.examples(invented_rows("u1", 1)), CONFIG, seed=1)


def test_a_memory_of_another_base_is_refused(llama, tokenizer):
    memory = train_memory(llama, "u1", llama.encoder.examples(invented_rows("u1", 8)), CONFIG, seed=1).memory
    other = in_use(tiny_model("llama", tokenizer, seed=1), tokenizer)

    with pytest.raises(IncompatibleBaseError, match=llama.record.fingerprint), remembering(other, memory):
        pass


def test_a_failed_block_restores_the_base(llama):
    memory = train_memory(llama, "u1", llama.encoder.examples(invented_rows("u1", 8)), CONFIG, seed=1).memory
    before = {name: weight.clone() for name, weight in llama.model.named_parameters()}

    with pytest.raises(RuntimeError, match="inside"), remembering(llama, memory):
        raise RuntimeError("inside")

    assert all(torch.equal(weight, before[name]) for name, weight in llama.model.named_parameters())


def test_episodes_add_up(llama):
    memory = train_memory(llama, "u1", llama.encoder.examples(invented_rows("u1", 12)), CONFIG, seed=1).memory
    one_by_one = [
        site_updates(Memory(memory.user_id, memory.base_fingerprint, memory.config, (episode,)))
        for episode in memory.episodes
    ]

    for name, update in site_updates(memory).items():
        torch.testing.assert_close(update, one_by_one[0][name] + one_by_one[1][name])
