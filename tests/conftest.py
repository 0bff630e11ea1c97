"""What every test may ask for."""

from __future__ import annotations

import os

# a test run is somebody's first impression too: no telemetry from it, whatever the shell says
os.environ.update(KEDRO_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1", GX_ANALYTICS_ENABLED="false", HF_HUB_OFFLINE="1")
# models this small gain nothing from a second thread, and lose much to it beside another busy process
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import uuid
from pathlib import Path

import absl.logging
import fsspec
import pytest
from buckets import another_pod, serving
from toys import TEXTS, base_of, in_use, tiny_model

from imprint.base.embedded import save_model, train_tokenizer
from imprint.base.load import BaseModelInUse

# rouge_score brings absl, whose log handler keeps the sys.stderr it finds and closes it when logging is configured
# anew while sys.stderr is another: in a test run, pytest's own file for all that follows
absl.logging.get_absl_handler().python_handler.setStream(sys.__stderr__)


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE of the embedded kind."""
    return train_tokenizer(TEXTS, 400)


@pytest.fixture(params=["llama", "gpt2"])
def base(request, tokenizer) -> BaseModelInUse:
    """One base model of each of two families; `families.every_family` gives a test all of them."""
    return base_of(request.param, tokenizer)


@pytest.fixture
def llama(tokenizer) -> BaseModelInUse:
    """A LLaMA-like base model."""
    return in_use(tiny_model("llama", tokenizer), tokenizer)


@pytest.fixture
def saved_llama(tokenizer, tmp_path) -> Path:
    """A folder that save_pretrained wrote."""
    folder = tmp_path / "saved-llama"
    save_model(tiny_model("llama", tokenizer), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def s3_server():
    """The URL of an S3-compatible server, in the environment for the rest of the session."""
    with serving() as url:
        yield url


@pytest.fixture
def bucket(s3_server):
    """The URL of a place in a bucket of the test's own, seen by a pod that has seen nothing."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    fsspec.filesystem("s3").mkdir(name)
    another_pod()
    yield f"s3://{name}/data"
    another_pod()
