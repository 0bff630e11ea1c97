"""What the tests of methods may ask for."""

import pytest
import torch
from methods import repeating_base
from toys import in_use, tiny_model


@pytest.fixture(scope="session")
def repeating(tokenizer):
    """A small model that repeats what it is told first."""
    return repeating_base(tokenizer)


@pytest.fixture(params=["llama", "gpt2"])
def loud(request, tokenizer):
    """A base of each family with large weights: its answers move with whatever it is given."""
    model = tiny_model(request.param, tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8 if weight.dim() > 1 else 1)
    return in_use(model, tokenizer)
