"""Every mapped family is checked against a small model of the real class."""

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from imprint.base.sites import FAMILIES, FEED_FORWARD, sites_of
from imprint.errors import BaseModelError

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 32,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_site_of_a_family_is_a_linear_of_the_real_class(family):
    given = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 64} if family == "gpt2" else SMALL
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **given))

    sites = sites_of(model)

    assert len(sites) == 2 * len(FAMILIES[family].linears)
    for site in sites:
        weight = model.get_submodule(site.name).weight
        assert sorted(weight.shape) == sorted((site.in_features, site.out_features))
    widths = {(site.in_features, site.out_features) for site in sites if site.target == "down"}
    assert widths == {(64 if family == "gpt2" else 24, 16)}
    assert {site.target for site in sites if site.layer == 1} >= set(FEED_FORWARD) - {"gate"}


def test_gpt2_keeps_its_weights_transposed(base):
    assert all(site.transposed == (base.record.family == "gpt2") for site in base.sites)


def test_a_family_without_a_map_is_refused_by_name():
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("bloom", hidden_size=16, n_layer=1, n_head=2, vocab_size=64)
    )

    with pytest.raises(BaseModelError, match=r"'bloom'.*FAMILIES"):
        sites_of(model)
