"""Persona-Plug against the paper's equations, and its invariants."""

import math
from dataclasses import replace

import methods
import pytest
import torch
from plugs import FIT, TEACHERS, plug, settings, soft_part, trained
from pydantic import ValidationError
from toys import invented_rows, score_alone

from imprint.base.settings import FitSettings
from imprint.errors import IncompatibleBaseError, NotEnoughDataError, SettingsError, UnknownUserError
from imprint.personalizers.conditioned import Asked
from imprint.personalizers.persona_plug import PlugConditioner, sub_history
from imprint.personalizers.plug import attention
from imprint.personalizers.protocol import question_of
from imprint.personalizers.settings import PlugSettings
from imprint.personalizers.shared import taught, teach
from imprint.personalizers.soft import SOFT, embedding_norm, soft_tokens


def test_the_papers_weights():
    """The toy vector of methods.md, 3.2: x = (1, 0), H = {(1, 0), (0, 1), (.6, .8)}."""
    query, history = torch.tensor([1.0, 0.0]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])

    weights = attention((history @ query)[None], torch.ones(1, 3, dtype=torch.bool))

    assert weights[0].tolist() == pytest.approx([0.490629, 0.180492, 0.328879], abs=1e-6)


def test_weights_are_over_what_is_shown_and_an_empty_history_has_none():
    likeness = torch.randn(2, 4, requires_grad=True)
    shown = torch.tensor([[True, False, True, False], [False] * 4])

    weights = attention(likeness, shown)
    weights.square().sum().backward()

    assert weights[0].sum().item() == pytest.approx(1)
    assert weights[0, 1] == weights[0, 3] == 0
    assert weights[1].tolist() == [0, 0, 0, 0]
    assert torch.isfinite(likeness.grad).all()


def test_soft_tokens_are_the_models_own_path_for_vectors(base):
    """A row with soft tokens scores as Hugging Face's own `inputs_embeds` does."""
    vectors = torch.randn(3, 32)
    ids = torch.tensor([[1, SOFT, SOFT, 7, 8], [1, 9, SOFT, 5, 6]])
    embedded = base.model.get_input_embeddings()(ids.clamp(min=0))
    embedded[0, 1], embedded[0, 2], embedded[1, 2] = vectors

    with torch.no_grad(), soft_tokens(base.model, vectors):
        logits = base.model(input_ids=ids).logits
        plain = base.model(input_ids=ids.clamp(min=0)).logits

    assert torch.allclose(logits, base.model(inputs_embeds=embedded).logits, atol=1e-6)
    assert torch.equal(plain, base.model(input_ids=ids.clamp(min=0)).logits)


def test_switched_off_it_is_the_base(base):
    """No soft token in a row: the base's logits exactly, inside the block and after it."""
    examples = base.encoder.examples(invented_rows("ann", 3))
    before = score_alone(base.model, examples)

    with soft_tokens(base.model, torch.randn(2, 32)):
        assert score_alone(base.model, examples) == before
    assert score_alone(base.model, examples) == before


def test_the_soft_prompt_is_the_equations(llama, tmp_path):
    """I and P_u of a mixed batch, each computed here by the paper's formulas for its row alone."""
    conditioner = plug(llama, tmp_path)
    conditioner.keep(methods.histories())
    module, scale = conditioner.plug, embedding_norm(llama.model)
    asked = [Asked("ann", "green river", 10, range(10)), Asked("bob", "apple", 3, range(3)), Asked("ann", "", 0, [])]

    for one in asked:
        history = conditioner._embeddings.of(one.user_id)[list(one.shown)]
        weights = (history @ module.query_encoder.queries([one.query])[0]).softmax(0)
        person = scale * sum(w * module.projector(h) for w, h in zip(weights, history, strict=True))
        expected = torch.stack([scale * module.instruction, person + torch.zeros(32)])
        with conditioner.given(asked):
            found = soft_part(llama, conditioner, asked, asked.index(one))
        assert torch.allclose(found, expected, atol=1e-5)
    assert scale == pytest.approx(llama.model.get_input_embeddings().weight.norm(dim=1).mean().item())


def test_no_breach(loud, tmp_path):
    make = trained(loud, tmp_path)[1]

    assert not methods.sees_the_future(make)
    assert methods.sees_the_future(methods.clairvoyant(make))
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


def test_training_helps_where_the_history_tells_the_answer(repeating, tmp_path):
    """Everybody always says a word of their own; new users' words can be known from their histories alone."""
    teachers = {f"t{number}": methods.one_word(f"t{number}", methods.EIGHT[number % 8], 6) for number in range(24)}
    training = FitSettings(learning_rate=3e-3, epochs=12, batch_rows=16)
    chosen = PlugSettings(fit=training, augment=0, history_text="{response}")

    def make() -> PlugConditioner:
        return PlugConditioner(repeating, chosen, 1, tmp_path)

    method = taught(make(), teach(make(), "persona_plug", teachers, chosen, training, 1, tmp_path))
    own, swapped, base = methods.losses_of_new_users(method, repeating)

    assert own < swapped - 0.5
    assert own < base - 0.5


def test_only_the_shared_weights_are_trained(llama, tmp_path):
    before = {name: weight.clone() for name, weight in llama.model.named_parameters()}
    fresh = plug(llama, tmp_path)

    record, make = trained(llama, tmp_path)

    assert all(torch.equal(weight, before[name]) for name, weight in llama.model.named_parameters())
    loaded = make()._conditioner.module.state_dict()
    moved = [name for name, weight in fresh.module.state_dict().items() if not torch.equal(weight, loaded[name])]
    assert {name.split(".")[0] for name in moved} == {"query_encoder", "projector", "instruction"}
    assert record.trainable_parameters == sum(weight.numel() for weight in fresh.module.parameters())


def test_a_lesson_is_taught_from_what_precedes_it_whole_and_in_parts(llama, tmp_path):
    conditioner = PlugConditioner(llama, PlugSettings(fit=FIT, augment=3), 1, tmp_path)
    conditioner.keep(TEACHERS)

    lessons = conditioner.lessons(TEACHERS)

    for user, rows in TEACHERS.items():
        for place, row in enumerate(rows):
            views = [one.asked.shown for one in lessons if one.example.record_id == row.record_id]
            assert list(views[0]) == list(range(place))
            assert len(views) == (4 if place > 2 else 1)
            assert all(set(view) < set(range(place)) for view in views[1:])
            assert all(one.asked.user_id == user for one in lessons if one.example.record_id == row.record_id)


def test_sub_histories_are_what_the_released_code_leaves():
    left = [sub_history(20, 7, "r", copy) for copy in range(200)]

    assert {len(one) for one in left} == set(range(10, 20))  # int(20 · U(0, 0.5)) + 1 deleted
    assert all(one == sorted(set(one)) for one in left)
    assert sub_history(20, 7, "r", 3) == left[3] != sub_history(20, 8, "r", 3)
    assert len(sub_history(3, 7, "r", 0)) == 1 + (len(sub_history(3, 7, "r", 0)) == 2)


def test_only_the_latest_items_count(llama, tmp_path):
    few, all_of_them = (plug(llama, tmp_path, max_items=items) for items in (3, 512))
    long = invented_rows("ann", 10)
    few.keep({"ann": long})
    all_of_them.keep({"ann": long[-3:]})
    prefix = torch.tensor([[SOFT, SOFT]])

    with torch.no_grad():
        with few.given([Asked("ann", "apple", 10, range(10))]):
            ours = llama.model.get_input_embeddings()(prefix)
        with all_of_them.given([Asked("ann", "apple", 3, range(3))]):
            theirs = llama.model.get_input_embeddings()(prefix)

    assert torch.allclose(ours, theirs, atol=1e-3)  # vectors are kept in half precision


def test_history_embeddings_are_kept_on_disk_for_the_very_texts(llama, tmp_path):
    method = trained(llama, tmp_path)[1]()
    method.fit(methods.histories())
    folders = list(tmp_path.glob("histories-*"))
    file = folders[0] / "ann.safetensors"
    written, rows = file.stat().st_mtime_ns, methods.asked_rows(1)
    scores = [one.nats for one in method.score(rows)]

    again = trained(llama, tmp_path)[1]()
    again.fit(methods.histories())
    assert file.stat().st_mtime_ns == written
    assert [one.nats for one in again.score(rows)] == scores
    assert method.bytes_of("ann") == methods.KNOWN * 32 * 2

    again.fit({"ann": [replace(row, response="window") for row in methods.histories()["ann"]]})
    assert file.stat().st_mtime_ns != written
    assert again.score(rows)[0].nats != scores[0]
    again.forget("ann")
    assert not file.exists()


def test_an_unknown_user_raises_and_an_empty_history_is_answered(llama, tmp_path):
    method, rows = trained(llama, tmp_path)[1](), methods.asked_rows(1)
    with pytest.raises(UnknownUserError, match="'ann'"):
        method.score(rows)
    method.fit({row.user_id: [] for row in rows})

    assert all(math.isfinite(one.nats) for one in method.score(rows))
    assert len(method.respond([question_of(row) for row in rows], 4)) == len(rows)


def test_teachers_are_named_when_they_are_forgotten(llama, tmp_path):
    method = trained(llama, tmp_path)[1]()

    assert "trained on the user's rows" in method.forget("tom")[0]
    assert method.forget("ann") == ()


def test_weights_are_made_once_and_fit_only_their_base(llama, base, tmp_path):
    record, make = trained(llama, tmp_path)
    steps = []

    again = teach(
        plug(llama, tmp_path), "persona_plug", TEACHERS, settings(), FIT, 1, tmp_path, lambda *step: steps.append(step)
    )

    assert again == record
    assert steps == []
    assert make().name == "persona_plug"
    if base.record.fingerprint != record.base_fingerprint:
        with pytest.raises(IncompatibleBaseError):
            taught(plug(base, tmp_path), record)
    with pytest.raises(NotEnoughDataError, match="persona_plug"):
        teach(plug(llama, tmp_path), "persona_plug", {"tom": []}, settings(), FIT, 1, tmp_path)


@pytest.mark.parametrize("text", ["{query} {score}", "no field", "{", "{0}"])
def test_a_history_text_without_known_fields_is_refused(text):
    with pytest.raises(ValidationError, match="history_text"):
        settings(history_text=text)


def test_a_budget_beyond_learned_positions_is_refused(base, tmp_path):
    if base.record.family == "gpt2":
        with pytest.raises(SettingsError, match="retrieved_tokens"):
            plug(base, tmp_path, retrieved=1, retrieved_tokens=76)
    plug(base, tmp_path, retrieved=1, retrieved_tokens=75)
