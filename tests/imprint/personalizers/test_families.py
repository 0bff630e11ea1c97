"""The methods on bases of every kind: what holds on LLaMA and GPT-2 holds on all, or is refused in words."""

import methods
import pytest
import torch
from families import KINDS, every_family
from toys import base_of, invented_rows, score_alone

from imprint.base.load import positions_beside
from imprint.base.settings import FitSettings
from imprint.errors import SettingsError
from imprint.personalizers.choosers import ByWords, Latest, retriever
from imprint.personalizers.conditioned import lesson_of
from imprint.personalizers.encoders import text_encoder
from imprint.personalizers.persona_plug import PlugConditioner
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.settings import EncoderSettings, PlugSettings, RetrievalSettings, UserLLMSettings
from imprint.personalizers.shared import taught, teach
from imprint.personalizers.soft import SOFT, embedding_width, soft_tokens
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.personalizers.user_llm import UserLLMConditioner

FIT = FitSettings(learning_rate=5e-3, epochs=2, batch_rows=8)
TEACHERS = {user: invented_rows(user, 6) for user in ("tom", "una")}
PLUG = PlugSettings(fit=FIT, augment=1)
OTHERS = [family for family in KINDS if family not in ("llama", "gpt2")]
other_families = pytest.mark.parametrize("loud", OTHERS, indirect=True)


def user_llm_settings(**changes):
    small = {"width": 16, "layers": 1, "heads": 2, "max_events": 8, "latents": 3, "pretrain": FIT, "fit": FIT}
    return UserLLMSettings(**{**small, **changes})


def made(kind, settings, base, workspace):
    """Makes the method, taught once."""
    record = teach(kind(base, settings, 1, workspace), "method", TEACHERS, settings, FIT, 1, workspace)
    return lambda: taught(kind(base, settings, 1, workspace), record)


def assert_no_breach(make):
    assert not methods.sees_the_future(make)
    assert methods.sees_the_future(methods.clairvoyant(make))
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


@other_families
def test_persona_plug_breaches_nothing(loud, tmp_path):
    assert_no_breach(made(PlugConditioner, PLUG, loud, tmp_path))


@other_families
def test_user_llm_breaches_nothing(loud, tmp_path):
    """By cross-attention, gates wide open, where the base has one stack of layers; else by a soft prompt."""
    how = "soft_prompt" if loud.model.config.is_encoder_decoder else "cross_attention"
    load = made(UserLLMConditioner, user_llm_settings(contextualise=how), loud, tmp_path)

    def make():
        method = load()
        for block in method._conditioner.module.blocks:
            torch.nn.init.ones_(block.gate)
        return method

    assert_no_breach(make)


@pytest.mark.parametrize("family", ["t5", "t5-gated"])
def test_cross_attention_is_refused_where_there_is_an_encoder(family, tokenizer, tmp_path):
    base = base_of(family, tokenizer)
    UserLLMConditioner(base, user_llm_settings(contextualise="soft_prompt"), 1, tmp_path)

    with pytest.raises(SettingsError, match=r"user_llm\.contextualise: cross_attention .*soft_prompt"):
        UserLLMConditioner(base, user_llm_settings(contextualise="cross_attention"), 1, tmp_path)


@pytest.mark.parametrize("strategy", ["lora", "full"])
def test_an_encoder_decoder_is_adapted_too(tokenizer, tmp_path, strategy):
    """A copy of it is trained, and answers the same once loaded; the base is left alone."""
    base = base_of("t5-gated", tokenizer)
    model = {name: weight.clone() for name, weight in base.model.named_parameters()}
    settings = user_llm_settings(contextualise="soft_prompt", strategy=strategy)
    make = made(UserLLMConditioner, settings, base, tmp_path)
    first, second = make(), make()
    for method in (first, second):
        method.fit(methods.histories())

    assert methods.answers(first, methods.asked_rows(1)) == methods.answers(second, methods.asked_rows(1))
    assert all(torch.equal(weight, model[name]) for name, weight in base.model.named_parameters())
    now = dict(first._conditioner.base.model.named_parameters())
    moved = [name for name in model.keys() & now.keys() if not torch.equal(now[name], model[name])]
    assert bool(moved) == (strategy == "full")
    assert any("lora_B" in name for name in now) == (strategy == "lora")


@every_family
def test_soft_tokens_stand_between_beginning_and_query_as_vectors_of_the_models_own(base):
    """Hugging Face's own path for vectors gives the same logits; they come first where no token begins a row."""
    example = base.encoder.example(invented_rows("ann", 1)[0])
    begin = 0 if base.encoder.tokenizer.bos_token_id is None else 1
    prompt, response = list(example.input_ids[: example.response_start]), example.input_ids[example.response_start :]
    vectors = torch.randn(2, embedding_width(base.model))
    ids = torch.tensor([[*prompt[:begin], SOFT, SOFT, *prompt[begin:]]])
    table = base.model.get_input_embeddings()
    embedded = table(ids.clamp(min=0))
    embedded[0, begin : begin + 2] = vectors
    given = {}
    if base.model.config.is_encoder_decoder:
        given = {"decoder_input_ids": torch.tensor([[0, *response[:-1]]])}

    with torch.no_grad(), soft_tokens(base.model, vectors):
        logits = base.model(input_ids=ids, **given).logits

    torch.testing.assert_close(logits, base.model(inputs_embeds=embedded, **given).logits, rtol=1e-4, atol=1e-5)
    without = base.model(input_ids=torch.tensor([prompt]), **given).logits
    assert not torch.allclose(logits[:, -1], without[:, -1], atol=1e-4)


@every_family
def test_with_nothing_to_say_a_method_is_the_base(base, tmp_path):
    """Cross-attention before any training, and a soft prompt that no row has a place for."""
    rows = methods.asked_rows(1)
    before = score_alone(base.model, base.encoder.examples(rows))
    with soft_tokens(base.model, torch.randn(2, embedding_width(base.model))):
        assert score_alone(base.model, base.encoder.examples(rows)) == before
    if base.model.config.is_encoder_decoder:
        return
    conditioner = UserLLMConditioner(base, user_llm_settings(every=1), 1, tmp_path)
    conditioner.restore({"values": []})
    conditioner.keep(methods.histories())
    for row, alone in zip(rows, before, strict=True):
        lesson = lesson_of(conditioner, row)
        with conditioner.given([lesson.asked]):
            assert score_alone(base.model, [lesson.example]) == [alone]


CHOOSERS = {
    "recent_history": lambda base: Latest(),
    "retrieval": lambda base: ByWords(2),
    "dense retrieval": lambda base: retriever(base, RetrievalSettings(by="dense", items=2)),
}


@pytest.mark.parametrize("chooser", CHOOSERS)
@other_families
def test_history_in_the_prompt_breaches_nothing(loud, chooser):
    def make():
        return Prompted("prompted", Unpersonalised("pooled", loud, 4), CHOOSERS[chooser](loud), 30)

    assert not methods.sees_the_future(make)
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


@every_family
def test_texts_are_vectors_of_the_width_that_the_encoder_says(base):
    encoder = text_encoder(base, EncoderSettings())
    vectors = encoder.embed(["green river", "", "apple"])
    assert vectors.shape == (3, encoder.width)
    torch.testing.assert_close(vectors[2:], encoder.embed(["apple"]), rtol=1e-4, atol=1e-5)


def test_narrow_embeddings_are_what_soft_tokens_and_text_vectors_are(tokenizer, tmp_path):
    """OPT-350M: layers of one width between embeddings of another."""
    base = base_of("opt", tokenizer, word_embed_proj_dim=24, do_layer_norm_before=False)
    method = made(PlugConditioner, PLUG, base, tmp_path)()
    method.fit(methods.histories())
    assert embedding_width(base.model) == 24
    assert method.bytes_of("ann") == methods.KNOWN * 24 * 2
    assert len(method.score(methods.asked_rows(1))) == 3
    for how in ("soft_prompt", "cross_attention"):
        method = made(UserLLMConditioner, user_llm_settings(contextualise=how), base, tmp_path)()
        method.fit(methods.histories())
        assert len(method.score(methods.asked_rows(1))) == 3


def test_positions_bound_a_history_where_they_are_learned(tokenizer):
    bases = {family: base_of(family, tokenizer) for family in KINDS}
    room = {family: positions_beside(base.model, base.encoder) for family, base in bases.items()}
    learned = dict.fromkeys(("gpt2", "opt", "roberta"), 128 - 24 - 24 - 3)
    assert room == {**dict.fromkeys(KINDS), **learned}
