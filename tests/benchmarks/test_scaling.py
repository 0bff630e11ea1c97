"""What a user more costs: measured in the process that trains, and told apart from what the user's rows take."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from repository import ROOT


def _size(users, before, half, peak, **more):
    return {
        "users": users,
        "before_mib": before,
        "half_mib": half,
        "peak_mib": peak,
        "memories_mib": users * 0.5,
        **more,
    }


def test_the_slope_of_one_that_keeps_every_memory_is_at_least_one_memory():
    from aims import FLAT
    from scaling import slopes

    keeps = slopes(_size(128, 500, 600, 700), _size(512, 540, 700, 700 + 256 * 0.5))
    assert keeps["scale_memories_kept"] == pytest.approx(1.0)
    assert keeps["scale_bytes_per_user"] == pytest.approx((40 / 384 + 0.5) * 2**20)
    assert FLAT.held(keeps["scale_memories_kept"]) is False


def test_rows_and_the_peaks_of_other_processes_are_no_part_of_what_training_adds():
    from aims import FLAT
    from scaling import slopes

    flat = slopes(_size(128, 500, 600, 700), _size(512, 540, 1300, 1300))
    assert flat["scale_training_bytes_per_user"] == 0
    assert flat["scale_bytes_per_user"] == pytest.approx(40 / 384 * 2**20)
    assert FLAT.held(flat["scale_memories_kept"]) is True


def test_what_grows_on_a_card_alone_is_growth():
    from scaling import slopes

    smaller = _size(32, 500, 700, 700, before_card_mib=1000, half_card_mib=1500, peak_card_mib=2000)
    larger = _size(128, 500, 700, 700, before_card_mib=1096, half_card_mib=2000, peak_card_mib=2000 + 64)
    found = slopes(smaller, larger)
    assert found["scale_memories_kept"] == pytest.approx(2.0)
    assert found["scale_card_bytes_per_user"] == pytest.approx((1 + 1) * 2**20)
    assert found["scale_bytes_per_user"] == 0


MEASURE = """
import json
from scaling import memory_now

from imprint.provenance import peak_memory_mib
gone = b"x" * (300 * 2**20)
del gone
before, start = memory_now(), peak_memory_mib()
kept = b"x" * (200 * 2**20)
print(json.dumps([before, start, peak_memory_mib()]))
"""


def test_peak_memory_is_the_childs_own_and_counted_from_the_start_of_training():
    """Neither a parent's memory nor what the child let go of before is in it; what the child takes is."""
    parents = b"x" * (600 * 2**20)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    before, start, peak = json.loads(run.stdout)
    assert start < before + 100 < len(parents)
    assert 190 < peak - before < 290
