"""The one loss, and the training loop of one set of weights."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from families import KINDS, every_family
from toys import base_of, in_use, invented_rows, score_alone, tiny_model

from imprint.base.examples import collate
from imprint.base.fit import batches, fit, packed, padded
from imprint.base.loss import mean_loss, nats_per_row
from imprint.base.settings import FitSettings
from imprint.base.trunk import layers_for
from imprint.errors import NotEnoughDataError

SETTINGS = FitSettings(learning_rate=1e-2, epochs=6, batch_rows=8)


@every_family
def test_the_loss_is_hugging_faces_own_over_the_response(base):
    """Our loss skips the vocabulary at prompt positions; the library computes all of it. They agree."""
    for example in base.encoder.examples(invented_rows("u1", 5)):
        ids = torch.tensor([example.input_ids])
        labels = ids.clone()
        labels[:, : example.response_start] = -100
        given = {"input_ids": ids, "labels": labels}
        if base.model.config.is_encoder_decoder:
            given = {"input_ids": ids[:, : example.response_start], "labels": ids[:, example.response_start :]}
        with torch.no_grad():
            expected = base.model(**given).loss * example.response_tokens

        assert score_alone(base.model, [example])[0].nats == pytest.approx(expected.item(), rel=1e-5)


@every_family
def test_no_token_sees_itself_or_what_comes_after_it(base):
    """The last token of a response moves no hidden state that a token is read from; the one before moves the last."""
    example = base.encoder.example(invented_rows("u1", 1)[0])
    layers = layers_for(base.model)

    def read_with(place):
        ids = list(example.input_ids)
        ids[place] += 1
        return layers.at_labels(layers.rows([[replace(example, input_ids=tuple(ids))]]))

    with torch.no_grad():
        whole = layers.at_labels(layers.rows([[example]]))
        assert len(whole) == example.response_tokens > 2
        assert torch.equal(read_with(-1), whole)
        moved = (read_with(-2) - whole).abs().amax(-1) > 0
    assert moved.tolist() == [False] * (len(whole) - 1) + [True]


@every_family
def test_a_rows_loss_does_not_depend_on_its_company(base):
    examples = base.encoder.examples(invented_rows("u1", 12))

    together = nats_per_row(base.model, collate(examples)).tolist()

    assert together == pytest.approx([row.nats for row in score_alone(base.model, examples)], rel=1e-5)


def test_training_lowers_the_loss_and_touches_only_the_given_weights(tokenizer):
    base = in_use(tiny_model("llama", tokenizer), tokenizer)
    examples = base.encoder.examples(invented_rows("u1", 24))
    trained = base.model.get_submodule("model.layers.1.mlp.down_proj").weight.requires_grad_(True)
    before = {name: weight.clone() for name, weight in base.model.named_parameters()}
    start = mean_loss(score_alone(base.model, examples))

    fitted = fit(base.model, [trained], examples, SETTINGS, order_seed=1)

    assert mean_loss(score_alone(base.model, examples)) < start - 0.05
    assert fitted.steps == 6 * 3
    changed = [name for name, weight in base.model.named_parameters() if not torch.equal(weight, before[name])]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]


@pytest.mark.parametrize("family", KINDS)
def test_packed_rows_train_what_padded_rows_train(family, tokenizer):
    """Every weight of the model, embeddings included: rows of 6 to 20 tokens, so that there is padding to leave out."""

    def trained(loss_of):
        base = base_of(family, tokenizer)
        base.model.requires_grad_(True)
        fitted = fit(
            base.model, base.model.parameters(), base.encoder.examples(invented_rows("u1", 24)), SETTINGS, 3,
            loss_of=partial(loss_of, base.model),
        )  # fmt: skip
        return fitted, dict(base.model.named_parameters())

    (plain, weights), (fitted, packed_weights) = trained(padded), trained(packed)

    assert fitted.final_loss == pytest.approx(plain.final_loss, rel=1e-5)
    assert (fitted.steps, fitted.tokens) == (plain.steps, plain.tokens)
    untrained = dict(base_of(family, tokenizer).model.named_parameters())
    for name, weight in weights.items():
        moved = (weight - untrained[name]).norm()
        # a key's bias moves by rounding alone: it adds the same to every score of a token
        assert (packed_weights[name] - weight).norm() <= 1e-3 * moved + 1e-4, name
        assert moved > 1e-2 or "bias" in name


def test_the_same_seed_trains_the_same_weights_and_another_does_not(tokenizer):
    def trained(seed):
        base = in_use(tiny_model("llama", tokenizer), tokenizer)
        weight = base.model.get_submodule("model.layers.2.mlp.up_proj").weight.requires_grad_(True)
        fit(base.model, [weight], base.encoder.examples(invented_rows("u1", 24)), SETTINGS, seed)
        return weight.detach()

    assert torch.equal(trained(3), trained(3))
    assert not torch.equal(trained(3), trained(4))


def test_every_epoch_has_every_row_once(llama):
    examples = llama.encoder.examples(invented_rows("u1", 37))
    settings = FitSettings(learning_rate=1e-3, epochs=2, batch_rows=8)

    seen = [example.record_id for batch in batches(examples, settings, order_seed=5) for example in batch]

    assert sorted(seen[:37]) == sorted(seen[37:]) == sorted(example.record_id for example in examples)
    assert seen[:37] != seen[37:]


def test_max_tokens_bounds_the_work(llama):
    examples = llama.encoder.examples(invented_rows("u1", 40))
    bounded = FitSettings(learning_rate=1e-3, epochs=100, batch_rows=4, max_tokens=300)

    read = sum(len(example.input_ids) for batch in batches(examples, bounded, 0) for example in batch)

    longest = max(len(example.input_ids) for example in examples)
    assert 300 <= read < 300 + 4 * longest


def test_no_rows_is_an_error_and_not_an_untrained_memory(llama):
    with pytest.raises(NotEnoughDataError, match="train split"):
        fit(llama.model, [torch.nn.Parameter(torch.zeros(1))], [], SETTINGS, 0)


def test_padding_never_changes_a_gradient(tokenizer):
    """A short row beside a long one gets the gradient it gets alone."""
    rows = invented_rows("u1", 2)

    def gradient(groups):
        base = in_use(tiny_model("gpt2", tokenizer), tokenizer)
        weight = base.model.get_submodule("transformer.h.1.mlp.c_fc").weight.requires_grad_(True)
        for group in groups:
            nats_per_row(base.model, collate(base.encoder.examples(group))).sum().backward()
        return weight.grad

    torch.testing.assert_close(gradient([rows]), gradient([rows[:1], rows[1:]]), rtol=1e-4, atol=1e-6)
