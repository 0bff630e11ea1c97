"""The benchmark runs from end to end; its figures are for a quiet machine and a larger size."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from aims import AIMS
from repository import ROOT

from imprint.base.examples import Example
from imprint.memory.config import MemoryConfig
from imprint.memory.trainer import train_memory

BENCH = ROOT / "benchmarks" / "bench.py"
KEYS = {
    "train_ratio_vs_trainer",
    "train_ratio_vs_loop",
    "searched_ratio_vs_trainer",
    "trials_ratio",
    "trials_ratio_same_engine",
    "trials_per_hour",
    "user_over_population",
    "generate_ratio_vs_peft",
    "generate_ratio_vs_one",
    "loss_gap",
    "flops_share",
    "scale_bytes_per_user",
    "hardware",
    "threads",
    "product_gflops",
    "trained_in",
    "versions",
}


@pytest.mark.slow
def test_the_last_line_is_json_with_every_figure_and_the_losses_agree():
    """All sections at their smallest: fleet and opponents reach one loss and the same texts."""
    size = ["--users", "2", "--quick", "--model", "tiny", "--search-trials", "2", "--scale-users", "1", "2"]
    run = subprocess.run([sys.executable, str(BENCH), *size], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found.keys() >= KEYS
    assert found["loss_gap"] <= 0.01
    assert found["generate_equal_texts"] == 1
    assert found["generate_tokens_per_text"] > 5  # equal texts say nothing where they are empty
    assert 0 < found["flops_share"] < 1
    assert [size["users"] for size in found["scale"]] == [1, 2]
    assert found["aims"].keys() == {aim.key for aim in AIMS["cpu"]}
    assert found["section_seconds"].keys() == {"setting", "train", "search", "generate", "scale"}
    assert all(seconds > 0 for seconds in found["section_seconds"].values())
    assert "aim: training against PEFT + Trainer, rank 8" in run.stdout
    assert "time of search" in run.stdout


def test_more_studies_than_users_are_refused_before_anything_is_measured():
    """The section `search` takes its users from those of the run."""
    command = [sys.executable, str(BENCH), "--users", "2", "--search-users", "3"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "--search-users 3: there are 2 users; next: raise --users.\n"


def test_a_section_that_is_not_there_is_refused_by_name():
    """A mistyped section ends the run before anything is measured, and the message names those there are."""
    run = subprocess.run(
        [sys.executable, str(BENCH), "--only", "training"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "training: no such section; there are train,search,generate,scale" in run.stderr


@pytest.mark.parametrize(
    ("ranks", "targets", "attended"),
    [((8,), ("gate", "up", "down"), 1 + 3 + 3), ((0, 8), ("up", "down"), 1 + 1 + 1), ((0, 8), ("down",), 1 + 1 + 1)],
)
def test_necessary_flops_are_what_pytorch_counts(llama, monkeypatch, ranks, targets, attended):
    """Rows of one length and one epoch leave plain PEFT nothing to waste but the upper half of attention."""
    from flops import necessary_flops
    from torch.utils.flop_counter import FlopCounterMode

    length = 12
    rows = [Example("u", str(row), tuple(range(3, 3 + length)), 5, False) for row in range(8)]
    config = MemoryConfig(ranks=ranks, targets=targets, alpha_ratio=2.0, n_memories=1, learning_rate=1e-3, epochs=1)
    monkeypatch.setattr(llama.model.config, "_attn_implementation", "eager")  # its products are counted one by one
    with FlopCounterMode(display=False) as counter:
        train_memory(llama, "u", rows, config, seed=7, batch_rows=4)
    above = length * length - length * (length + 1) // 2
    wasted = 4 * 32 * above * len(rows) * attended  # the toy is 32 wide; a layer whose gradient is needed counts thrice
    assert necessary_flops(llama, config, rows) + wasted == counter.get_total_flops()
