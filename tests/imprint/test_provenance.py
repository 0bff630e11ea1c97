"""Names that mean the same everywhere."""

import os
import subprocess

from imprint.memory.config import MemoryConfig
from imprint.provenance import (
    accelerator_names,
    code_version,
    device,
    fingerprint,
    fingerprint_of_rows,
    processor_name,
    run_conditions,
    seed_for,
)


def test_a_fingerprint_depends_on_values_and_not_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint("é")) == 16


def test_a_model_is_named_by_its_values():
    given = {
        "ranks": (8,),
        "targets": ("down",),
        "alpha_ratio": 2.0,
        "n_memories": 1,
        "learning_rate": 1e-3,
        "epochs": 1,
    }
    assert fingerprint(MemoryConfig(**given)) == fingerprint(MemoryConfig(**given))
    assert fingerprint(MemoryConfig(**given)) != fingerprint(MemoryConfig(**{**given, "epochs": 2}))


def test_rows_are_named_in_their_order_and_their_bounds():
    assert fingerprint_of_rows(["ab", "c"]) != fingerprint_of_rows(["a", "bc"])
    assert fingerprint_of_rows(["a", "b"]) != fingerprint_of_rows(["b", "a"])


def test_a_seed_belongs_to_its_names():
    assert seed_for(1, "order", "u1") == seed_for(1, "order", "u1")
    assert (
        len(
            {seed_for(1, "order", "u1"), seed_for(1, "order", "u2"), seed_for(2, "order", "u1"), seed_for(1, "orderu1")}
        )
        == 4
    )
    assert all(0 <= seed_for(n, "x") < 2**63 for n in range(50))


def test_the_code_version_knows_a_dirty_checkout(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    assert code_version(tmp_path) == {"commit": None, "dirty": None}
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "first")
    assert code_version(tmp_path)["dirty"] is False
    (tmp_path / "a").write_text("2")
    assert code_version(tmp_path)["dirty"] is True


def test_an_image_says_what_it_was_built_from_and_a_checkout_knows_better(tmp_path, monkeypatch):
    monkeypatch.setenv("IMPRINT_COMMIT", "abc")
    assert code_version(tmp_path) == {"commit": "abc", "dirty": None}
    assert code_version()["commit"] != "abc"
    monkeypatch.setenv("IMPRINT_COMMIT", "")  # an image built without the argument
    assert code_version(tmp_path) == {"commit": None, "dirty": None}


def test_conditions_have_no_clock():
    assert run_conditions(7, data="d") == run_conditions(7, data="d")


def test_the_device_is_what_this_process_may_use(tmp_path):
    found = device()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert None not in (found["machine"], found["system"])
    assert run_conditions(7)["device"] == found

    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Invented 9: fast\nmodel name\t: X\n")
    assert processor_name(tmp_path / "cpuinfo") == "Invented 9: fast"
    for bus, name in (("0000:01:00.0", "NVIDIA Invented"), ("0000:02:00.0", "NVIDIA Other")):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
        (tmp_path / "gpus" / bus / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 42\n")
    assert accelerator_names(tmp_path / "gpus") == ["NVIDIA Invented", "NVIDIA Other"]
    assert accelerator_names(tmp_path / "no driver") == []
