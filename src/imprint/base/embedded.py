"""The embedded default base: a small LLaMA with a byte-level BPE tokenizer, trained on the corpus's own training rows.

It exists so that the whole pipeline runs for real where no pretrained model can be fetched. It is trained on background
users and, only where those have too few rows, on all users; never on a validation or test row. In a dialogue corpus the
query of a background user's row may be what a reported user said: it is context there, no loss is taken over it, but
the tokenizer sees its words (docs/decisions/0004).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imprint.base.checkpoint import Checkpoint
from imprint.base.examples import Encoder, Interaction
from imprint.base.fit import fit, packed
from imprint.base.placement import device_for
from imprint.base.settings import BaseSettings
from imprint.provenance import seed_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"


class Shape(NamedTuple):
    """The shape of an embedded base; `auto` takes the largest shape whose floor the corpus reaches."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    vocabulary: int
    from_words: int


SHAPES = {
    "tiny": Shape(layers=2, width=64, feed_forward=192, heads=4, vocabulary=512, from_words=0),
    "mini": Shape(layers=3, width=96, feed_forward=288, heads=4, vocabulary=768, from_words=30_000),
    "small": Shape(layers=4, width=128, feed_forward=384, heads=4, vocabulary=1024, from_words=100_000),
    "medium": Shape(layers=4, width=192, feed_forward=512, heads=4, vocabulary=3072, from_words=400_000),
}


def shape_for(size: str, words: int) -> Shape:
    """The shape named `size`, or for `auto` the largest that `words` (white-space words of training text) can teach."""
    if size != "auto":
        return SHAPES[size]
    return [shape for shape in SHAPES.values() if words >= shape.from_words][-1]


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocabulary` tokens: every text can be encoded, so there is no unknown token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def new_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, positions: int, seed: int) -> PreTrainedModel:
    """A randomly initialised LLaMA of that shape, with tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.feed_forward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=positions,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def train_embedded(
    rows: Sequence[Interaction],
    settings: BaseSettings,
    seed: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    checkpoint: Checkpoint | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, dict[str, Any]]:
    """Tokenizer and model from scratch on `rows`; returns them with what was done (tokens, steps, seconds, loss).

    With a `checkpoint`, the model's training goes on where a killed one was.
    """
    texts = [text for row in rows for text in (row.query, row.response)]
    shape = shape_for(settings.embedded.size, sum(text.count(" ") + 1 for text in texts))
    tokenizer = train_tokenizer(texts, settings.embedded.vocabulary or shape.vocabulary)
    encoder = Encoder(tokenizer, settings.max_query_tokens, settings.max_response_tokens)
    # Responses are generated up to as many tokens as they may have; bos and two eos come on top.
    positions = settings.max_query_tokens + settings.max_response_tokens + 3
    model = new_model(shape, tokenizer, positions, seed_for(seed, "base", "weights"))
    model.to(device_for(settings.device))  # type: ignore[arg-type]
    fitted = fit(
        model,
        model.parameters(),
        encoder.examples(rows),
        settings.embedded.fit,
        seed_for(seed, "base", "order"),
        on_step,
        checkpoint=checkpoint,
        loss_of=partial(packed, model),
    )
    done = {"rows": len(rows), "training_tokens": fitted.tokens, "steps": fitted.steps, "final_loss": fitted.final_loss}
    return model, tokenizer, {**done, "seconds": round(fitted.seconds, 1)}


def save_model(model: PreTrainedModel, tokenizer: Any, directory: Path) -> None:
    """Weights (safetensors) and tokenizer in Hugging Face's own layout."""
    with contextlib.redirect_stderr(io.StringIO()):  # save_pretrained draws its own bar for a file of a few megabytes
        model.save_pretrained(directory, safe_serialization=True)
        tokenizer.save_pretrained(directory)
