"""A small model of every mapped family, of the real class, its tokenizer, and what Hugging Face itself makes of it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from imprint.base.sites import FAMILIES

KINDS = ["llama", "gpt2", "gpt_neox", "opt", "roberta", "t5", "t5-gated"]
"""Families of which no two are built alike."""
CAUSAL = [family for family in sorted(FAMILIES) if not family.startswith("t5")]
every_family = pytest.mark.parametrize("base", KINDS, indirect=True)
"""Marks a test of `base` for all of `KINDS`, not only for the two that every test of it runs on."""


class Shape(NamedTuple):
    """Of a small model."""

    width: int = 16
    inner: int = 24
    layers: int = 2
    heads: int = 4
    positions: int = 64


USUAL = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
NAMES = {
    "gpt2": ("n_embd", "n_inner", "n_layer", "n_head", "n_positions"),
    "opt": ("hidden_size", "ffn_dim", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"),
    "t5": ("d_model", "d_ff", "num_layers", "num_heads", "relative_attention_max_distance"),
}
"""What a family's config calls the fields of `Shape`."""
LOUDNESS = {"opt": "init_std", "t5": "initializer_factor"}
"""What a family's config calls the scale of random weights, where not `initializer_range`."""


def config_of(family, vocabulary, shape=None, loudness=None, **changes):
    """The config of a small model of this family; `loudness` is the scale of its random weights."""
    shape, (kind, _, variant) = shape or Shape(), family.partition("-")
    named = dict(zip(NAMES.get(kind, USUAL), shape, strict=True)) | _special_to(kind, shape)
    if variant:  # as T5 v1.1 and Flan-T5 are saved: a gate, and embeddings that are not the projection
        named |= {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    if loudness is not None and kind != "t5":  # T5's own start is far louder than the others'
        named[LOUDNESS.get(kind, "initializer_range")] = loudness
    return AutoConfig.for_model(kind, vocab_size=vocabulary, **{**named, **changes})


def _special_to(kind, shape):
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "t5":
        return {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "d_kv": shape.width // shape.heads}
    if kind == "roberta":  # positions are counted from the one after the padding's
        room = {"max_position_embeddings": shape.positions + 2, "type_vocab_size": 1}
        return {**room, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "is_decoder": True}
    if kind == "gpt_neox":  # turns a part of each head, as the real ones do
        return {
            **tokens,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
        }
    if kind in NAMES:
        return tokens
    return {**tokens, "num_key_value_heads": shape.heads // 2, "head_dim": shape.width // shape.heads}


def model_of(config, seed=0):
    """A randomly initialised model of the config's class, frozen."""
    torch.manual_seed(seed)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return kind.from_config(config).eval().requires_grad_(False)


END, START, PAD, UNKNOWN, TEXT = "</s>", "<s>", "<pad>", "<unk>", "<|endoftext|>"
SPECIAL = {
    "gpt_neox": ([TEXT, "<|padding|>"], {"bos_token": TEXT, "eos_token": TEXT, "unk_token": TEXT}),
    "opt": ([START, PAD, END], {"bos_token": END, "eos_token": END, "pad_token": PAD}),
    "roberta": (
        [START, PAD, END, UNKNOWN, "<mask>"],
        {"bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN, "mask_token": "<mask>"},
    ),
    "t5": ([PAD, END, UNKNOWN], {"eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}),
}
"""Special tokens of a family in the order of their ids, and which of them is what."""


@cache
def tokenizer_from(kind, texts):
    """A byte-level BPE of these texts with the special tokens of a kind in `SPECIAL`."""
    tokens, roles = SPECIAL[kind]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **roles)


def asked(model, prompt, response):
    """What Hugging Face's own forward is given for one prompt and the tokens of a response, and where it answers.

    The logits at that slice are those of each token of the response, and of one more.
    """
    if model.config.is_encoder_decoder:
        given = torch.tensor([[model.config.decoder_start_token_id, *response]])
        return {"input_ids": torch.tensor([prompt]), "decoder_input_ids": given, "use_cache": False}, slice(None)
    return {"input_ids": torch.tensor([[*prompt, *response]]), "use_cache": False}, slice(len(prompt) - 1, None)


def logits_of_response(model, example, run=None):
    """Logits [response tokens, vocabulary] that Hugging Face's own forward gives an example, alone and unpadded."""
    at = example.response_start
    given, where = asked(model, example.input_ids[:at], example.input_ids[at:-1])
    return (run or model)(**given).logits[0, where]


def written(model, prompt, eos, most):
    """Greedy tokens after a prompt, each by a whole forward pass of Hugging Face's own, up to `eos` or so many."""
    found = []
    while len(found) < most and (not found or found[-1] != eos):
        given, _ = asked(model, prompt, found)
        found.append(int(model(**given).logits[0, -1].argmax()))
    return [token for token in found if token != eos]
