"""Every mapped family is checked against a small model of the real class."""

import pytest
from families import config_of, model_of
from transformers import AutoConfig, AutoModelForCausalLM

from imprint.base.sites import FAMILIES, FEED_FORWARD, layers_of, of_encoder_decoder, sites_of
from imprint.errors import BaseModelError
from imprint.memory.config import MemoryConfig


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_site_of_a_family_is_a_linear_of_the_real_class(family):
    model = model_of(config_of(family, 64))

    sites = sites_of(model)

    assert len(sites) == 2 * sum(len(stack.linears) for stack in FAMILIES[family].stacks)
    assert len({site.name for site in sites}) == len(sites)
    assert len(layers_of(model)) == 2 * len(FAMILIES[family].stacks) == sites[-1].layer + 1
    for site in sites:
        weight = model.get_submodule(site.name).weight
        assert sorted(weight.shape) == sorted((site.in_features, site.out_features))
    widths = {(site.in_features, site.out_features) for site in sites if site.target == "down"}
    assert widths == {(24, 16)}
    for layer in range(len(layers_of(model))):
        assert {site.target for site in sites if site.layer == layer} >= set(FEED_FORWARD) - {"gate"}


def test_gpt2_keeps_its_weights_transposed(base):
    assert all(site.transposed == (base.record.family == "gpt2") for site in base.sites)


def test_layers_of_a_decoder_come_after_those_of_its_encoder():
    """Stacks of unlike depth: ranks are laid over both, so that (0, 2) is a memory in the decoder alone."""
    model = model_of(config_of("t5", 64, num_layers=2, num_decoder_layers=2))
    deeper = model_of(config_of("t5", 64, num_layers=2, num_decoder_layers=3))

    assert [site.layer for site in sites_of(deeper) if site.target == "down"] == [0, 1, 2, 3, 4]
    ranks = MemoryConfig(
        ranks=(0, 2), targets=("down",), alpha_ratio=1.0, n_memories=1, learning_rate=1e-3, epochs=1
    ).site_ranks(sites_of(model))
    assert list(ranks) == [f"decoder.block.{layer}.layer.2.DenseReluDense.wo" for layer in range(2)]


def test_sites_say_whether_there_is_an_encoder():
    assert of_encoder_decoder(sites_of(model_of(config_of("t5", 64))))
    assert not of_encoder_decoder(sites_of(model_of(config_of("roberta", 64))))


def test_a_roberta_that_sees_what_comes_later_is_refused():
    model = model_of(config_of("roberta", 64))
    sites_of(model)
    model.config.is_decoder = False

    with pytest.raises(BaseModelError, match=r"is_decoder false.*load_pretrained"):
        sites_of(model)


def test_a_family_without_a_map_is_refused_with_what_a_map_is_made_of():
    """Its name, where maps are, and the path and class of every matrix inside a layer, once for all layers."""
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("bloom", hidden_size=16, n_layer=2, n_head=2, vocab_size=64)
    )

    with pytest.raises(BaseModelError, match=r"'bloom'.*FAMILIES in src/imprint/base/sites\.py") as refused:
        sites_of(model)

    message = str(refused.value)
    assert "BloomForCausalLM" in message
    for path in ("self_attention.query_key_value", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"):
        assert message.count(f"transformer.h.N.{path} (Linear)") == 1
    assert "lm_head" not in message
    assert "layernorm" not in message
