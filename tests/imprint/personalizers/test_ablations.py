"""Persona-Plug's ablations: each by its description, and none of them a breach."""

import math

import methods
import pytest
import torch
from plugs import plug, soft_part, trained

from imprint.personalizers.conditioned import Asked
from imprint.personalizers.soft import SOFT, embedding_norm

ABLATIONS = [
    {"instruction": "none"},
    {"instruction": "projected"},
    {"weights": "mean"},
    {"top": 4},
    {"weights": "mean", "top": 2},
    {"retrieved": 1},
    {"history_text": "{response}"},
]


@pytest.mark.parametrize("changes", ABLATIONS, ids=str)
def test_ablations_train_answer_and_breach_nothing(llama, tmp_path, changes):
    record, make = trained(llama, tmp_path, **changes)
    method, rows = make(), methods.asked_rows(1)
    method.fit(methods.histories())

    assert record.fingerprint != trained(llama, tmp_path)[0].fingerprint
    assert all(math.isfinite(one.nats) for one in method.score(rows))
    assert not methods.sees_the_future(make)
    assert not methods.sees_its_company(make)


def test_ablations_change_what_they_say(llama, tmp_path):
    def tokens(**changes):
        conditioner = plug(llama, tmp_path, **changes)
        conditioner.keep(methods.histories())
        asked = Asked("ann", "green river", 10, range(10))
        prefix = conditioner.prefix(asked)
        with torch.no_grad(), conditioner.given([asked]):
            return prefix, llama.model.get_input_embeddings()(torch.tensor([prefix]))[0]

    prefix, vectors = tokens()
    assert prefix == (SOFT, SOFT)
    assert tokens(instruction="none")[0] == (SOFT,)
    assert torch.allclose(tokens(instruction="none")[1][0].norm(), vectors[1].norm(), rtol=0.5)
    shown, _ = tokens(retrieved=1)
    assert shown[-2:] == (SOFT, SOFT)
    assert 0 < len(shown) - 2 <= 48
    assert llama.encoder.tokenizer.eos_token_id == shown[-3]
    mean, four = tokens(weights="mean")[1][1], tokens(top=4)[1][1]
    assert not torch.allclose(mean, vectors[1], rtol=1e-3)
    assert not torch.allclose(four, vectors[1], rtol=1e-3)


def by_hand(module, history, query, changes):
    """Weights of a history under an ablation, by the formulas of its description."""
    likeness = history @ module.query_encoder.queries([query])[0] if module.query_encoder else torch.zeros(len(history))
    best = likeness.sort(descending=True).indices[: changes.get("top", len(history))]
    weights = torch.zeros(len(history))
    weights[best] = 1 / len(best) if changes.get("weights") == "mean" else likeness[best].softmax(0)
    return weights


@pytest.mark.parametrize("changes", [{"weights": "mean"}, {"top": 4}, {"weights": "mean", "top": 2}], ids=str)
def test_ablated_weights_are_those_of_the_description(llama, tmp_path, changes):
    """The best few of a history are the best, and a mean is one over their number."""
    conditioner = plug(llama, tmp_path, **changes)
    conditioner.keep(methods.histories())
    module, asked = conditioner.plug, Asked("ann", "green river", 10, range(10))
    history = conditioner._embeddings.of("ann")

    with torch.no_grad(), conditioner.given([asked]):
        _, person = soft_part(llama, conditioner, [asked], 0)
        expected = (
            embedding_norm(llama.model) * by_hand(module, history, asked.query, changes) @ module.projector(history)
        )
    torch.testing.assert_close(person, expected, rtol=1e-4, atol=1e-5)


def test_a_projected_instruction_is_scaled_as_in_the_released_code(llama, tmp_path):
    """By the embeddings' length and a seventh, from a vector of the encoder's width."""
    conditioner = plug(llama, tmp_path, instruction="projected")
    conditioner.keep(methods.histories())
    module, asked = conditioner.plug, Asked("ann", "green river", 10, range(10))

    with torch.no_grad(), conditioner.given([asked]):
        instruction, _ = soft_part(llama, conditioner, [asked], 0)
        expected = embedding_norm(llama.model) / 7 * module.instruction_projector(module.instruction)
    torch.testing.assert_close(instruction, expected, rtol=1e-4, atol=1e-6)


def test_the_one_retrieved_document_is_the_best_match(llama, tmp_path):
    conditioner = plug(llama, tmp_path, retrieved=1)
    conditioner.keep(methods.histories())
    wanted = methods.histories()["ann"][6]
    shown = conditioner.prefix(Asked("ann", f"{wanted.query} {wanted.response}", 10, range(10)))

    beginning = " ".join(wanted.response.split()[:3])  # what is shown is cut to its room
    assert beginning in llama.encoder.tokenizer.decode([token for token in shown if token >= 0])
