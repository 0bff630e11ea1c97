"""Memory configs: what the space allows, and what a model can carry."""

import pytest
from pydantic import ValidationError

from imprint.base.sites import Site
from imprint.data.partition import MIN_TRAIN_ROWS
from imprint.errors import MemoryConfigError
from imprint.memory.config import MAX_EPISODES, MemoryConfig

GOOD = {
    "ranks": (8,),
    "targets": ("gate", "up", "down"),
    "alpha_ratio": 2.0,
    "n_memories": 1,
    "learning_rate": 1e-3,
    "epochs": 2,
}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("ranks", (3,), "allowed are"),
        ("ranks", (-1,), "allowed are"),
        ("ranks", (0, 0), "no layer a memory"),
        ("ranks", (1,) * 9, "at most 8"),
        ("ranks", (), "at least 1"),
        ("targets", ("down", "down"), "twice"),
        ("targets", ("middle",), "Input should be"),
        ("n_memories", 0, "greater than or equal to 1"),
        ("n_memories", 5, "less than or equal to 4"),
        ("learning_rate", 0, "greater than 0"),
        ("alpha_ratio", -1, "greater than 0"),
        ("rnak", 8, "Extra inputs"),
    ],
)
def test_a_config_outside_the_space_is_refused_with_its_field(field, value, says):
    MemoryConfig(**GOOD)

    with pytest.raises(ValidationError, match=says) as refused:
        MemoryConfig(**{**GOOD, field: value})
    assert field in str(refused.value)


def test_ranks_are_laid_over_the_layers_group_by_group(llama):
    config = MemoryConfig(**{**GOOD, "ranks": (0, 4), "targets": ("down",)})

    assert config.site_ranks(llama.sites) == {"model.layers.2.mlp.down_proj": 4}


def test_more_groups_than_layers_are_refused(llama):
    with pytest.raises(MemoryConfigError, match="3 layers"):
        MemoryConfig(**{**GOOD, "ranks": (1, 2, 1, 2)}).site_ranks(llama.sites)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ((8, 8, 8, 8), (8,)),
        ((4, 4, 0, 0), (4, 0)),
        ((4, 0, 4, 0), (4, 0, 4, 0)),
        ((1, 1, 2), (1, 1, 2)),
        ((1, 1, 1, 2, 2, 2), (1, 2)),
        ((0, 0, 8, 8, 0, 0), (0, 8, 0)),
    ],
)
def test_one_config_has_one_spelling_and_every_layer_keeps_its_rank(written, kept):
    """Else a memory that is already there, under another spelling of its config, would be trained again."""
    config = MemoryConfig(**{**GOOD, "ranks": written})

    assert config.ranks == kept
    for layers in range(len(written), 13):
        sites = [Site(f"{layer}", layer, "down", 2, 2, transposed=False) for layer in range(layers)]
        by_layer = {f"{layer}": written[layer * len(written) // layers] for layer in range(layers)}
        assert config.site_ranks(sites) == {name: rank for name, rank in by_layer.items() if rank}


def test_targets_the_family_does_not_have_are_left_out_and_none_at_all_is_refused(base):
    is_gpt2 = base.record.family == "gpt2"
    ranks = MemoryConfig(**GOOD).site_ranks(base.sites)
    assert len(ranks) == (2 if is_gpt2 else 3) * 3

    if is_gpt2:
        with pytest.raises(MemoryConfigError, match="names no linear"):
            MemoryConfig(**{**GOOD, "targets": ("gate",)}).site_ranks(base.sites)


def test_the_parameter_count_is_the_formula_of_the_methods_page():
    """Methods 1.4: per unit of rank and layer 3 · (d + d_ff); SmolLM2-135M has 6,336."""
    from imprint.base.sites import Site

    def site(layer, target, width_in, width_out):
        return Site(f"layers.{layer}.{target}", layer, target, width_in, width_out, False)

    shapes = {"gate": (576, 1536), "up": (576, 1536), "down": (1536, 576)}
    sites = [site(layer, target, *shape) for layer in range(30) for target, shape in shapes.items()]

    assert MemoryConfig(**{**GOOD, "ranks": (1,)}).trainable_parameters(sites) == 30 * 6_336
    assert MemoryConfig(**{**GOOD, "ranks": (8,), "n_memories": 2}).trainable_parameters(sites) == 2 * 8 * 30 * 6_336


def test_whoever_gets_a_memory_has_a_row_for_each_of_its_episodes():
    assert MIN_TRAIN_ROWS == MAX_EPISODES
