"""What families do in their own way: each loads as what it must be, and keeps its own path from ids to logits."""

import pytest
import torch
from families import KINDS, config_of, every_family, logits_of_response, written
from toys import base_of, in_use, invented_rows, score_alone

from imprint.base.continuation import continued
from imprint.base.embedded import save_model
from imprint.base.families import first_position, logits_of, prompt_embedding, reader_of
from imprint.base.load import fingerprint_of_model, load_pretrained
from imprint.errors import BaseModelError

ROWS = invented_rows("u1", 5)
UNUSUAL = [
    ("opt", {"word_embed_proj_dim": 24, "do_layer_norm_before": False}),  # as OPT-350M: narrower embeddings
    ("gpt_neox", {"use_parallel_residual": False}),
    ("roberta", {"add_cross_attention": True}),
    ("t5", {"num_decoder_layers": 2, "d_kv": 5}),
    ("t5", {"tie_word_embeddings": False}),  # not scaled before the vocabulary
    ("t5-gated", {"feed_forward_proj": "gated-silu", "tie_word_embeddings": True}),
]


def hugging_faces(base):
    """Nats of each row's response by Hugging Face's own forward."""
    found = []
    for example in base.encoder.examples(ROWS):
        chosen = logits_of_response(base.model, example).log_softmax(-1)
        labels = torch.tensor(example.input_ids[example.response_start :])
        found.append(-chosen.gather(1, labels[:, None]).sum().item())
    return found


@pytest.mark.parametrize(("family", "changes"), UNUSUAL, ids=str)
def test_unusual_members_of_a_family_score_and_write_as_hugging_face_does(family, changes, tokenizer):
    base = base_of(family, tokenizer, **changes)
    eos, prompts = base.encoder.tokenizer.eos_token_id, [base.encoder.prompt(row.query)[0] for row in ROWS]

    scored = score_alone(base.model, base.encoder.examples(ROWS))
    text, tokens = continued(base.model, prompts, eos, 5), None
    steps = []
    for _ in range(5):
        tokens = logits_of(base.model, text.step(tokens)).argmax(-1)
        steps.append(tokens.tolist())

    assert [row.nats for row in scored] == pytest.approx(hugging_faces(base), rel=1e-5)
    for row, prompt in enumerate(prompts):
        mine, known = [step[row] for step in steps], written(base.model, prompt, eos, 5)
        assert mine[: len(known)] == known


@pytest.mark.parametrize("family", KINDS)
def test_a_saved_model_of_every_family_is_loaded_as_it_was(family, tokenizer, tmp_path):
    """Tokenizer included; with the same fingerprint and losses, as BaseModelInUse and not only as weights."""
    base = base_of(family, tokenizer)
    save_model(base.model, base.encoder.tokenizer, tmp_path / "saved")

    model, its_tokenizer = load_pretrained(str(tmp_path / "saved"))
    again = in_use(model, its_tokenizer)

    assert again.record.fingerprint == base.record.fingerprint
    assert again.encoder.examples(ROWS) == base.encoder.examples(ROWS)
    expected = [row.nats for row in score_alone(base.model, base.encoder.examples(ROWS))]
    assert [row.nats for row in score_alone(model, again.encoder.examples(ROWS))] == pytest.approx(expected, rel=1e-6)


def test_a_t5_whose_states_are_not_scaled_stays_so(tokenizer, tmp_path):
    """Flan-T5's way is a flag beside another in its config: a fingerprint that lost it would be another model's."""
    base, scaled = (base_of("t5-gated", tokenizer, tie_word_embeddings=tied) for tied in (False, True))
    assert not base.model.config.scale_decoder_outputs
    assert scaled.model.config.scale_decoder_outputs
    save_model(base.model, base.encoder.tokenizer, tmp_path / "saved")
    assert fingerprint_of_model(*load_pretrained(str(tmp_path / "saved"))) == base.record.fingerprint
    assert scaled.record.fingerprint != base.record.fingerprint


def test_a_roberta_that_was_saved_as_an_encoder_becomes_a_decoder(tokenizer, tmp_path):
    """As the published ones are: masked language models that see both ways."""
    base = base_of("roberta", tokenizer)
    base.model.config.is_decoder = False
    save_model(base.model, base.encoder.tokenizer, tmp_path / "saved")
    base.model.config.is_decoder = True

    model, _ = load_pretrained(str(tmp_path / "saved"))

    assert model.config.is_decoder
    examples = base.encoder.examples(ROWS)
    assert score_alone(model, examples) == score_alone(base.model, examples)


def test_a_sequence_to_sequence_model_without_a_map_is_refused(tokenizer, tmp_path):
    from transformers import BartConfig, BartForConditionalGeneration

    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    model = BartForConditionalGeneration(BartConfig(vocab_size=len(tokenizer), **small))
    save_model(model, tokenizer, tmp_path / "saved")

    with pytest.raises(BaseModelError, match=r"'bart'.*BartForConditionalGeneration.*layers\.N\.fc1 \(Linear\)"):
        load_pretrained(str(tmp_path / "saved"))


@every_family
def test_the_reader_and_the_table_are_those_a_prompt_goes_through(base):
    """Hooks on both see the prompt's ids."""
    example, seen = base.encoder.examples(ROWS[:1])[0], []

    def note(module, args, kwargs):
        seen.append(kwargs["input_ids"] if "input_ids" in kwargs else args[0])

    for module in (reader_of(base.model), prompt_embedding(base.model)):
        module.register_forward_pre_hook(note, with_kwargs=True)
    score_alone(base.model, [example])

    assert len(seen) == 2
    for ids in seen:
        assert tuple(ids[0, : example.response_start].tolist()) == example.input_ids[: example.response_start]


def test_only_roberta_counts_its_positions_from_elsewhere(tokenizer):
    firsts = {family: first_position(base_of(family, tokenizer).model) for family in KINDS}
    assert firsts == {**dict.fromkeys(KINDS, 0), "roberta": 2}
    assert config_of("roberta", 64).pad_token_id == 1
