"""What the tests of methods may ask for."""

import pytest
from methods import repeating_base


@pytest.fixture(scope="session")
def repeating(tokenizer):
    """A small model that repeats what it is told first."""
    return repeating_base(tokenizer)
