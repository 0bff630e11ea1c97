"""Greedy responses: the same query, model and memory always answer the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imprint.base.examples import Encoder

if TYPE_CHECKING:
    from torch import nn


def respond(
    model: nn.Module, encoder: Encoder, queries: Sequence[str], max_new_tokens: int, batch_rows: int = 32
) -> list[str]:
    """One response a query, in order, decoded greedily until `<eos>` or `max_new_tokens`.

    A batch holds prompts of one length only, so that no padding enters and a response never depends on its company.
    """
    prompts = [encoder.prompt(query)[0] for query in queries]
    by_length: dict[int, list[int]] = {}
    for index, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(index)
    answers: dict[int, str] = {}
    for indices in by_length.values():
        for start in range(0, len(indices), batch_rows):
            chosen = indices[start : start + batch_rows]
            texts = _generate(model, encoder, [prompts[index] for index in chosen], max_new_tokens)
            answers.update(zip(chosen, texts, strict=True))
    return [answers[index] for index in range(len(queries))]


def _generate(model: nn.Module, encoder: Encoder, prompts: Sequence[tuple[int, ...]], max_new_tokens: int) -> list[str]:
    import torch

    tokenizer = encoder.tokenizer
    ids = torch.tensor(prompts, device=next(model.parameters()).device)
    output = model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
    )
    return [text.strip() for text in tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)]
