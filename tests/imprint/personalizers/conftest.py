"""What the tests of methods may ask for."""

import pytest
import torch
from methods import repeating_base
from toys import base_of, in_use


@pytest.fixture(scope="session")
def repeating(tokenizer):
    """A small model that repeats what it is told first."""
    return repeating_base(tokenizer)


@pytest.fixture(params=["llama", "gpt2"])
def loud(request, tokenizer):
    """A base with large weights, T5's being large as they are: its answers move with whatever it is given."""
    base = base_of(request.param, tokenizer)
    if not base.model.config.is_encoder_decoder:
        with torch.no_grad():
            for weight in base.model.parameters():
                weight.mul_(8 if weight.dim() > 1 else 1)
    return in_use(base.model, base.encoder.tokenizer)
