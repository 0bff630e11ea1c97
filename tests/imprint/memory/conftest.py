"""What the tests of fleets may ask for."""

from types import SimpleNamespace

import pytest
from fleets import BATCH_ROWS, MIXED, SEED, job, threads
from toys import in_use, tiny_model

from imprint.memory.trainer import train_memory


@pytest.fixture
def one_lane():
    """The same number of lanes on every machine."""
    with threads(1):
        yield


@pytest.fixture(scope="session", params=["llama", "gpt2"])
def mixed(request, tokenizer):
    """One base of each family, seven unlike jobs, and what the one-user trainer makes of each."""
    base = in_use(tiny_model(request.param, tokenizer), tokenizer)
    jobs = [job(base, *one) for one in MIXED]
    oracle = [train_memory(base, one.user_id, one.examples, one.config, SEED, BATCH_ROWS) for one in jobs]
    return SimpleNamespace(base=base, jobs=jobs, oracle=oracle)
