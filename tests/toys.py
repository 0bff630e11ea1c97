"""Small real models and invented interactions, made on the spot: no download, no mock."""

from __future__ import annotations

import random

from imprint.base.examples import Encoder, Interaction, collate
from imprint.base.load import BaseModelInUse, record_of
from imprint.base.loss import RowLoss, nats_per_row

WORDS = [
    "apple",
    "river",
    "stone",
    "cloud",
    "green",
    "quiet",
    "table",
    "window",
    "music",
    "paper",
    "silver",
    "garden",
    "engine",
    "letter",
    "winter",
    "orange",
]


SMALL_SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""What `AutoConfig.for_model` of a LLaMA-like family needs for a model of two layers."""


def invented_rows(user_id: str, count: int, seed: int = 0, first: int = 0) -> list[Interaction]:
    """Interactions of made-up words, `first` the place of the first; a user's responses favour words of their own."""
    draw = random.Random(f"{user_id}/{seed}")
    favourite = draw.sample(WORDS, 4)
    return [
        Interaction(
            user_id,
            f"{user_id}-{index}",
            " ".join(draw.choices(WORDS, k=draw.randint(2, 6))),
            " ".join(draw.choices(favourite, k=draw.randint(2, 7))),
            order=first + index,
        )
        for index in range(count)
    ]


def tiny_model(family: str, tokenizer, seed: int = 0):
    """A randomly initialised model of the real class: three layers, width 32."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    if family == "llama":
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = LlamaForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        model = GPT2LMHeadModel(config)
    return model.eval().requires_grad_(False)


def in_use(model, tokenizer, path: str = "in memory") -> BaseModelInUse:
    """A model as the stages hold it."""
    return BaseModelInUse(model, Encoder(tokenizer, 24, 24), record_of(model, tokenizer, path))


def score_alone(model, examples) -> list[RowLoss]:
    """The loss of each example, one at a time: what every batched scorer must agree with."""
    import torch

    with torch.no_grad():
        nats = [nats_per_row(model, collate([example])).item() for example in examples]
    return [RowLoss(one.record_id, value, one.response_tokens) for one, value in zip(examples, nats, strict=True)]
