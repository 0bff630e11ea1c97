"""Whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imprint.data.atomic import move_directory, new_directory, read_manifest, write_bytes, write_json
from imprint.provenance import file_sha256


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})

    with pytest.raises(TypeError):
        write_json(file, {"new": object()})
    with pytest.raises(TypeError):
        write_bytes(file, "text and no bytes")

    assert json.loads(file.read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_directory_appears_whole_with_its_manifest(tmp_path):
    facts = {"rows": 0}
    with new_directory(tmp_path / "d", facts) as folder:
        (folder / "part").write_text("content")
        facts["rows"] = 3
        assert not (tmp_path / "d").exists()

    manifest = read_manifest(tmp_path / "d")
    assert manifest["rows"] == 3
    assert manifest["files"] == {"part": {"sha256": file_sha256(tmp_path / "d" / "part"), "bytes": 7}}


def test_a_failed_directory_leaves_the_old_one_and_nothing_else(tmp_path):
    with new_directory(tmp_path / "d") as folder:
        (folder / "old").write_text("")

    def killed_half_way():
        with new_directory(tmp_path / "d") as folder:
            (folder / "new").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed_half_way()

    assert [path.name for path in tmp_path.iterdir()] == ["d"]
    assert set(read_manifest(tmp_path / "d")["files"]) == {"old"}


def test_a_directory_replaces_the_one_before_it(tmp_path):
    for name in ("first", "second"):
        with new_directory(tmp_path / "d") as folder:
            (folder / name).write_text("")
    assert set(read_manifest(tmp_path / "d")["files"]) == {"second"}

    with new_directory(tmp_path / "scratch") as folder:
        (folder / "third").write_text("")
    move_directory(tmp_path / "scratch", tmp_path / "d")
    assert set(read_manifest(tmp_path / "d")["files"]) == {"third"}
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_without_a_manifest_a_directory_is_unfinished(tmp_path):
    assert read_manifest(tmp_path) is None


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path):
    """A writer whose process has ended here, and one of whom nothing is known but that it was long ago."""
    make = "import sys; from pathlib import Path; from imprint.storage import beside; print(beside(Path(sys.argv[1])))"
    run = subprocess.run([sys.executable, "-c", make, str(tmp_path / "d")], capture_output=True, text=True, check=True)
    killed, elsewhere = Path(run.stdout.strip()), tmp_path / ".d.another_machine-1-0123456789ab.tmp"
    for left in (killed, elsewhere):
        left.mkdir()
        (left / "words").write_text("of a person")
    os.utime(elsewhere, (0, 0))

    with new_directory(tmp_path / "d"):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_what_another_writer_makes_at_this_moment_stays(tmp_path):
    """On this machine, or on another that shares the folder."""
    (tmp_path / ".d.another_machine-1-0123456789ab.tmp").mkdir()
    with new_directory(tmp_path / "d") as first:
        (first / "mine").write_text("1")
        with new_directory(tmp_path / "d") as second:
            (second / "theirs").write_text("2")

    assert sorted(path.name for path in tmp_path.iterdir()) == [".d.another_machine-1-0123456789ab.tmp", "d"]
    assert set(read_manifest(tmp_path / "d")["files"]) == {"mine"}
