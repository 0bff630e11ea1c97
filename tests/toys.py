"""Small real models and invented interactions, made on the spot: no download, no mock."""

from __future__ import annotations

import random

from families import SPECIAL, Shape, config_of, model_of, tokenizer_from

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


TEXTS = (*(row.query for row in invented_rows("everybody", 200)), *WORDS)
"""What small tokenizers are trained on."""


def tiny_model(family: str, tokenizer, seed: int = 0, **changes):
    """A randomly initialised model of the real class: three layers, width 32."""
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    shape = Shape(width=32, inner=48, layers=3, heads=4, positions=128)
    return model_of(config_of(family, len(tokenizer), shape, **special, **changes), seed)


def tokenizer_of(family: str, embedded):
    """A tokenizer with the special tokens that the family's real ones have; else the embedded one."""
    kind = family.partition("-")[0]
    return tokenizer_from(kind, TEXTS) if kind in SPECIAL else embedded


def base_of(family: str, embedded, seed: int = 0, **changes) -> BaseModelInUse:
    """A small base of a family, with its own kind of tokenizer."""
    tokenizer = tokenizer_of(family, embedded)
    return in_use(tiny_model(family, tokenizer, seed, **changes), tokenizer)


def in_use(model, tokenizer, path: str = "in memory") -> BaseModelInUse:
    """A model as the stages hold it."""
    return BaseModelInUse(model, Encoder(tokenizer, 24, 24), record_of(model, tokenizer, path))


def score_alone(model, examples) -> list[RowLoss]:
    """The loss of each example, one at a time: what every batched scorer must agree with."""
    import torch

    with torch.no_grad():
        nats = [nats_per_row(model, collate([example])).item() for example in examples]
    return [RowLoss(one.record_id, value, one.response_tokens) for one, value in zip(examples, nats, strict=True)]
