"""User-LLM against the paper's equations, its invariants, and its strategies."""

import math
from dataclasses import replace

import methods
import pytest
import torch
from pydantic import ValidationError
from toys import invented_rows, score_alone

from imprint.base.settings import FitSettings
from imprint.errors import SettingsError
from imprint.personalizers.conditioned import Asked, lesson_of
from imprint.personalizers.contextualiser import GatedCrossAttention, Perceiver, attending, layers_with_blocks
from imprint.personalizers.settings import EventFeature, UserLLMSettings
from imprint.personalizers.shared import taught, teach
from imprint.personalizers.soft import SOFT
from imprint.personalizers.user_llm import UserLLMConditioner

FIT = FitSettings(learning_rate=5e-3, epochs=2, batch_rows=8)
SMALL = {"width": 16, "layers": 1, "heads": 2, "max_events": 8, "latents": 3, "pretrain": FIT, "fit": FIT}
EVENTS = (
    EventFeature(attribute="item"),
    EventFeature(attribute="rating"),
    EventFeature(attribute="categories", separator="|"),
)


TEACHERS = {user: methods.with_events(invented_rows(user, 9)) for user in ("tom", "una")}


def settings(**changes):
    return UserLLMSettings(**{**SMALL, **changes})


def user_llm(base, workspace, **changes):
    return UserLLMConditioner(base, settings(**changes), 1, workspace)


def trained(base, workspace, **changes):
    record = teach(user_llm(base, workspace, **changes), "user_llm", TEACHERS, settings(**changes), FIT, 1, workspace)
    return record, lambda: taught(user_llm(base, workspace, **changes), record)


VARIANTS = [
    {},
    {"contextualise": "soft_prompt"},
    {"contextualise": "soft_prompt", "latents": 0},
    {"latents": 0, "every": 1},
    {"features": EVENTS},
    {"features": EVENTS, "fusion": "late"},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda one: "-".join(map(str, one)) or "default")
def test_no_breach(loud, tmp_path, changes):
    _, load = trained(loud, tmp_path, **changes)

    def make():
        method = load()
        for block in method._conditioner.module.blocks:  # wide open, so that what comes through is seen
            torch.nn.init.ones_(block.gate)
        return method

    assert not methods.sees_the_future(make)
    assert methods.sees_the_future(methods.clairvoyant(make))
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


EMPTY = [{}, {"features": EVENTS}, {"features": EVENTS, "fusion": "late"}, {"latents": 0}, VARIANTS[2]]


@pytest.mark.parametrize("changes", EMPTY, ids=lambda one: "-".join(map(str, one)) or "default")
def test_users_of_whom_nothing_is_known_are_answered_as_beside_one_of_whom_something_is(llama, tmp_path, changes):
    """A batch without a single event: a new user's first question, or users whose training rows all came later."""
    method = trained(llama, tmp_path, **changes)[1]()
    past, rows = methods.histories(), methods.asked_rows(1)
    for block in method._conditioner.module.blocks:
        torch.nn.init.ones_(block.gate)
    method.fit({**past, "ann": [], "bob": []})
    first, beside = [row for row in rows if row.user_id != "cleo"], methods.answers(method, rows)

    nats, texts = methods.answers(method, first)

    assert all(math.isfinite(one) for one in nats)
    assert methods.same((nats, texts), (beside[0][:2], beside[1][:2]))


def test_with_gates_at_zero_the_model_is_the_base_exactly(base, tmp_path):
    """Before any training, on rows of users with histories of unlike lengths."""
    conditioner = user_llm(base, tmp_path, every=1)
    conditioner.restore({"values": []})
    conditioner.keep(methods.histories())
    rows = methods.asked_rows()
    lessons = [lesson_of(conditioner, row) for row in rows]
    before = score_alone(base.model, base.encoder.examples(rows))

    for lesson, alone in zip(lessons, before, strict=True):
        with conditioner.given([lesson.asked]):
            assert score_alone(base.model, [lesson.example]) == [alone]


@pytest.mark.parametrize("strategy", ["full", "encoder", "lora", "projection"])
def test_before_training_the_logits_are_the_bases_under_every_strategy(llama, tmp_path, strategy):
    """Gates at zero, and B of a LoRA; an open gate is heard."""
    conditioner = user_llm(llama, tmp_path, every=1, strategy=strategy)
    conditioner.restore({"values": []})
    conditioner.keep(methods.histories())
    asked, ids = [lesson_of(conditioner, methods.asked_rows()[0]).asked], torch.tensor([[1, 7, 8, 9]])

    def logits():
        with torch.no_grad(), conditioner.given(asked):
            return conditioner.base.model(input_ids=ids).logits

    with torch.no_grad():
        before = llama.model(input_ids=ids).logits
    assert torch.equal(logits(), before)
    torch.nn.init.ones_(conditioner.module.blocks[0].gate)
    assert not torch.allclose(logits(), before, atol=1e-4)


def test_an_open_gate_changes_the_answer_and_only_inside_the_block(base):
    block = GatedCrossAttention(16, 32, 4)
    states, real = torch.randn(1, 3, 16), torch.ones(1, 3, dtype=torch.bool)
    ids = torch.tensor([[1, 7, 8, 9]])
    before = base.model(input_ids=ids).logits

    for gate in (block.gate, block.gate_feed_forward):
        torch.nn.init.constant_(gate, 0.5)
        with attending(base.model, [1], [block], states, real):
            assert not torch.allclose(base.model(input_ids=ids).logits, before, atol=1e-4)
        torch.nn.init.zeros_(gate)
    assert torch.equal(base.model(input_ids=ids).logits, before)


def test_cross_attention_is_the_equation():
    block = GatedCrossAttention(16, 32, 4)
    torch.nn.init.constant_(block.gate, 0.7)
    torch.nn.init.constant_(block.gate_feed_forward, -0.3)
    said, states = torch.randn(2, 5, 32), torch.randn(2, 4, 16)
    real = torch.tensor([[True, True, False, False], [True] * 4])

    found = block(said, states, real)

    for row in range(2):
        user = block.norm_states(states[row, real[row]])[None]
        read = block.attention(block.norm(said[row : row + 1]), user, user)[0][0]
        expected = said[row] + math.tanh(0.7) * read
        expected = expected + math.tanh(-0.3) * block.feed_forward(expected)
        assert torch.allclose(found[row], expected, atol=1e-5)


def test_latents_do_not_see_padding():
    perceiver = Perceiver(16, 2, 3)
    states = torch.randn(1, 4, 16)
    padded = torch.cat([states, torch.randn(1, 2, 16)], dim=1)
    real = torch.tensor([[True] * 4 + [False] * 2])

    assert perceiver(padded, real).shape == (1, 3, 16)
    assert torch.allclose(perceiver(padded, real), perceiver(states, real[:, :4]), atol=1e-6)


def test_blocks_follow_every_so_many_layers():
    assert layers_with_blocks(8, 4) == [3, 7]
    assert layers_with_blocks(3, 2) == [1]
    assert layers_with_blocks(2, 4) == [1]


def test_pretraining_learns_what_comes_next(llama, tmp_path):
    """Items come round in a fixed order, so the next one can be known."""
    rows = {f"t{number}": methods.with_events(invented_rows(f"t{number}", 16))[number % 5 :] for number in range(10)}

    def loss(epochs):
        pretrain = FitSettings(learning_rate=1e-2, epochs=epochs, batch_rows=4)
        conditioner = user_llm(llama, tmp_path, features=EVENTS, pretrain=pretrain)
        conditioner.keep(rows)
        return conditioner.prepare(rows, lambda *step: None)[0]["pretraining"]["loss"]

    assert loss(30) < 0.5 * loss(1)


def test_a_corpus_without_a_feature_is_an_error_that_names_it(llama, tmp_path):
    rows = {"tom": [replace(row, attributes=(("item", "i1"),)) for row in invented_rows("tom", 4)]}
    chosen = settings(features=EVENTS)
    with pytest.raises(SettingsError, match=r"'rating'; this corpus has \['item'\]"):
        teach(user_llm(llama, tmp_path, features=EVENTS), "user_llm", rows, chosen, FIT, 1, tmp_path)


STRATEGIES = {
    "projection": {"project", "perceiver", "blocks"},
    "encoder": {"encoder", "project", "perceiver", "blocks"},
    "lora": {"encoder", "project", "perceiver", "blocks", "adapted"},
    "full": {"encoder", "project", "perceiver", "blocks", "adapted"},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_trains_its_weights_and_no_others(base, tmp_path, strategy):
    conditioner = user_llm(base, tmp_path, strategy=strategy, every=1)
    conditioner.keep(TEACHERS)
    conditioner.prepare(TEACHERS, lambda *step: None)
    start = {name: weight.clone() for name, weight in conditioner.module.state_dict().items()}
    model = {name: weight.clone() for name, weight in base.model.named_parameters()}

    record, make = trained(base, tmp_path, strategy=strategy, every=1)

    method = make()
    now = method._conditioner.module.state_dict()
    assert {name.split(".")[0] for name in start if not torch.equal(start[name], now[name])} == STRATEGIES[strategy]
    assert all(torch.equal(weight, model[name]) for name, weight in base.model.named_parameters())
    assert ("lora_A" in str(list(now))) == (strategy == "lora")
    assert record.trainable_parameters > 0
    method.fit(methods.histories())
    again = make()
    again.fit(methods.histories())
    assert methods.answers(method, methods.asked_rows(1)) == methods.answers(again, methods.asked_rows(1))


def test_training_helps_where_the_history_tells_the_answer(repeating, tmp_path):
    teachers = {f"t{number}": methods.one_word(f"t{number}", methods.EIGHT[number % 8], 6) for number in range(24)}
    training = FitSettings(learning_rate=5e-3, epochs=12, batch_rows=16)
    chosen = settings(contextualise="soft_prompt", latents=2, pretrain=FIT, fit=training, width=32)

    def make() -> UserLLMConditioner:
        return UserLLMConditioner(repeating, chosen, 1, tmp_path)

    method = taught(make(), teach(make(), "user_llm", teachers, chosen, training, 1, tmp_path))
    own, swapped, base = methods.losses_of_new_users(method, repeating)

    assert own < swapped - 0.5
    assert own < base - 0.5


def test_only_the_latest_events_count(llama, tmp_path):
    conditioner = user_llm(llama, tmp_path, contextualise="soft_prompt", latents=0)
    conditioner.restore({"values": []})
    conditioner.keep({"ann": invented_rows("ann", 20)})

    assert conditioner.prefix(Asked("ann", "apple", 20, range(20))) == (SOFT,) * 9
    assert conditioner.prefix(Asked("ann", "apple", 3, range(3))) == (SOFT,) * 4
    assert conditioner.prefix(Asked("ann", "apple", 0, range(0))) == (SOFT,)
    assert conditioner.bytes_of("ann") == 20 * 32 * 2


def test_heads_must_divide_the_width_and_a_soft_prompt_must_fit(base, tmp_path):
    with pytest.raises(ValidationError, match="heads: 3 given for width 16"):
        settings(heads=3)
    if base.record.family == "gpt2":
        with pytest.raises(SettingsError, match=r"user_llm\.latents: 78"):
            user_llm(base, tmp_path, contextualise="soft_prompt", latents=78)
