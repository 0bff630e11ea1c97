"""The benchmark runs from end to end; its figures are for a quiet machine and a larger size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "bench.py"
KEYS = {
    "train_ratio_vs_trainer",
    "train_ratio_vs_loop",
    "searched_ratio_vs_trainer",
    "generate_ratio_vs_peft",
    "generate_ratio_vs_one",
    "loss_gap",
    "flops_share",
    "hardware",
    "threads",
    "product_gflops",
    "versions",
}


@pytest.mark.slow
def test_the_last_line_is_json_with_every_figure_and_the_losses_agree():
    """All sections at their smallest: fleet and opponents reach one loss and the same texts."""
    size = ["--users", "2", "--quick", "--model", "tiny", "--scale-users", "2"]
    run = subprocess.run([sys.executable, str(BENCH), *size], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found.keys() >= KEYS
    assert found["loss_gap"] <= 0.01
    assert found["generate_equal_texts"] == 1
    assert found["generate_tokens_per_text"] > 5  # equal texts say nothing where they are empty
    assert 0 < found["flops_share"] < 1
    assert [size["users"] for size in found["scale"]] == [2]


def test_a_section_that_is_not_there_is_refused_by_name():
    """A mistyped section ends the run before anything is measured, and the message names those there are."""
    run = subprocess.run(
        [sys.executable, str(BENCH), "--only", "training"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "training: no such section; there are train,generate,scale" in run.stderr
