"""Texts that are continued: what is kept of what was read, and what becomes of rows that are taken half-way."""

from __future__ import annotations

import pytest
import torch
from families import KINDS
from toys import base_of

from imprint.base.continuation import continued
from imprint.base.families import logits_of

STEPS = 6


def prompts_of(base):
    return [base.encoder.prompt(query)[0] for query in ("how are you", "where", "what did you do all day long")]


def a_step(base, text, tokens):
    hidden = text.step(tokens)
    return hidden, logits_of(base.model, hidden).argmax(-1)


@pytest.mark.parametrize("family", KINDS)
def test_rows_taken_half_way_go_on_as_they_would_have(family, tokenizer):
    """Some twice, some not, in another order, and those left behind go on as if nobody had been taken."""
    base = base_of(family, tokenizer)
    rows = torch.tensor([2, 0, 2])
    with torch.no_grad():
        text, alone = (continued(base.model, prompts_of(base), 0, STEPS) for _ in range(2))
        tokens = known = None
        for _ in range(STEPS // 2):
            (_, tokens), (_, known) = a_step(base, text, tokens), a_step(base, alone, known)
        taken, of_taken = text.of(rows), tokens[rows]
        for _ in range(STEPS // 2):
            of_rows, of_taken = a_step(base, taken, of_taken)
            stayed, tokens = a_step(base, text, tokens)
            expected, known = a_step(base, alone, known)
            torch.testing.assert_close(stayed, expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(of_rows, expected[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", KINDS)
def test_others_go_on_as_they_would_have_when_a_row_has_ended(family, tokenizer):
    base = base_of(family, tokenizer)
    with torch.no_grad():
        text, alone = (continued(base.model, prompts_of(base), 0, STEPS) for _ in range(2))
        tokens = known = None
        for step in range(STEPS):
            (hidden, tokens), (expected, known) = a_step(base, text, tokens), a_step(base, alone, known)
            torch.testing.assert_close(hidden[::2], expected[::2], rtol=1e-5, atol=1e-5)
            text.end(torch.tensor([False, step > 0, False]))


def test_a_row_that_has_ended_looks_at_nothing_but_its_new_token(tokenizer):
    """Wherever that stands: what it looks for in itself hangs on no position."""
    base = base_of("llama", tokenizer)
    chosen = torch.tensor([5, 6, 7])
    with torch.no_grad():
        text, alone = continued(base.model, prompts_of(base), 0, STEPS), continued(base.model, [(6,)], 0, STEPS)
        expected = alone.step(None)
        text.step(None)
        for _ in range(2):
            text.end(torch.tensor([False, True, False]))
            torch.testing.assert_close(text.step(chosen)[1:2], expected, rtol=1e-5, atol=1e-5)


def test_what_was_read_is_not_copied_for_a_token_more(tokenizer):
    base = base_of("llama", tokenizer)
    with torch.no_grad():
        text, tokens, places = continued(base.model, prompts_of(base), 0, STEPS), None, set()
        for _ in range(STEPS + 1):
            _, tokens = a_step(base, text, tokens)
            places.add(tuple(part.data_ptr() for kept in text._cache._rooms.values() for part in kept))
    assert len(places) == 1


def test_what_waits_behind_a_layer_is_heard(tokenizer):
    """As User-LLM's cross-attention blocks are: a model run in halves would pass them by."""
    base = base_of("llama", tokenizer)
    prompts = prompts_of(base)
    layer = base.model.get_submodule(base.model.base_model_prefix).layers[0]
    with torch.no_grad():
        alone = continued(base.model, prompts, 0, STEPS).step(None)
        handle = layer.register_forward_hook(lambda module, args, output: output + 1)
        beside = continued(base.model, prompts, 0, STEPS).step(None)
        handle.remove()
    assert not torch.allclose(alone, beside, atol=1e-2)
