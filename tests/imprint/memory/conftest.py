"""What the tests of fleets may ask for."""

from types import SimpleNamespace

import pytest
from fleets import BATCH_ROWS, MIXED, SEED, job, threads
from toys import base_of

from imprint.memory.trainer import train_memory


@pytest.fixture
def one_lane():
    """The same number of lanes on every machine."""
    with threads(1):
        yield


@pytest.fixture(scope="session", params=["llama", "gpt2", "t5-gated"])
def mixed(request, tokenizer):
    """Bases that are read in unlike ways, seven unlike jobs, and what the one-user trainer makes of each."""
    base = base_of(request.param, tokenizer)
    jobs = [job(base, *one) for one in MIXED]
    oracle = [train_memory(base, one.user_id, one.examples, one.config, SEED, BATCH_ROWS) for one in jobs]
    return SimpleNamespace(base=base, jobs=jobs, oracle=oracle)
