"""The method's identities on trained memories: sizes by formula, episodes as one LoRA, merged as unmerged."""

import pytest
import torch
from toys import invented_rows

from imprint.memory.config import MemoryConfig
from imprint.memory.peft_format import join_episodes
from imprint.memory.stack import stack_memories, stacked
from imprint.memory.trainer import train_memory

CONFIG = MemoryConfig(ranks=(2, 4), targets=("up", "down"), alpha_ratio=2.0, n_memories=2, learning_rate=2e-2, epochs=2)


@pytest.fixture
def memory(base):
    return train_memory(base, "ann", base.encoder.examples(invented_rows("ann", 16)), CONFIG, 1).memory


def test_a_memory_has_as_many_weights_as_the_formula_says(base, memory):
    """The sum of r (d_in + d_out) over sites, for each episode."""
    counted = sum(
        factors.a.numel() + factors.b.numel() for episode in memory.episodes for factors in episode.factors.values()
    )
    by_site = sum(
        len(factors.a) * (factors.a.shape[1] + factors.b.shape[0]) for factors in memory.episodes[0].factors.values()
    )
    assert counted == len(memory.episodes) * by_site == CONFIG.trainable_parameters(base.sites)
    assert {len(factors.a) for factors in memory.episodes[0].factors.values()} == {2, 4}


def test_episodes_side_by_side_are_the_sum_of_their_updates(memory):
    """K ungated LoRAs of rank r at one site are one of rank K r."""
    for name, joined in join_episodes(memory).items():
        updates = [episode.factors[name].b @ episode.factors[name].a for episode in memory.episodes]
        torch.testing.assert_close(joined.b @ joined.a, sum(updates), rtol=1e-5, atol=1e-7)
        assert all(update.abs().max() > 0 for update in updates)


def test_a_memory_merged_into_the_weights_answers_as_the_memory_beside_them(base, memory):
    ids = torch.tensor([base.encoder.prompt("window music")[0]])
    before = base.model(ids).logits
    with stacked(base, stack_memories([memory])):
        beside = base.model(ids).logits
    sites = {site.name: site for site in base.sites}
    for name, joined in join_episodes(memory).items():
        update = CONFIG.alpha_ratio * joined.b @ joined.a
        base.model.get_submodule(name).weight.data += update.T if sites[name].transposed else update

    torch.testing.assert_close(base.model(ids).logits, beside, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(beside, before, atol=1e-4)
