"""Pseudonyms and their key."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from imprint.data.pseudonyms import FABRICATED_KEY, load_key, name_hash, pseudonym, record_id
from imprint.errors import SettingsError

KEY = bytes(range(32))


def test_a_pseudonym_is_the_hmac_of_the_contract():
    """It is u and 16 hex of HMAC-SHA256(key, corpus ":" raw id): anybody with the key can compute it again."""
    expected = hmac.new(KEY, b"chat:wren", hashlib.sha256).hexdigest()[:16]
    assert pseudonym(KEY, "chat", "wren") == f"u{expected}"


def test_key_corpus_and_id_all_count():
    """The same name in two corpora is not linked, nor under two keys."""
    ids = {
        pseudonym(KEY, "chat", "wren"),
        pseudonym(KEY, "forum", "wren"),
        pseudonym(KEY, "chat", "kite"),
        pseudonym(FABRICATED_KEY, "chat", "wren"),
    }
    assert len(ids) == 4
    assert all(re.fullmatch("u[0-9a-f]{16}", one) for one in ids)


def test_the_hash_of_a_name_is_no_pseudonym():
    """Beside the list of users it must not say which of them a name is."""
    names = {name_hash(KEY, "chat", "wren"), name_hash(KEY, "forum", "wren"), name_hash(FABRICATED_KEY, "chat", "wren")}
    assert len(names) == 3
    assert pseudonym(KEY, "chat", "wren")[1:] not in {name[1:] for name in names}


def test_record_ids_differ_by_user_and_source_and_repeat():
    """A row without user has its own name space, whatever its source id."""
    ids = [record_id(KEY, "chat", user, source) for user in (None, "", "a") for source in ("1", "2")]
    assert len(set(ids)) == 6
    assert record_id(KEY, "chat", "a", "1") == ids[4]
    assert re.fullmatch("r[0-9a-f]{16}", ids[0])


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path):
    """A second call reads the first one's key."""
    path = tmp_path / "local" / "key"
    key = load_key(path, "jsonl")
    assert len(key) == 32
    assert load_key(path, "jsonl") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_processes_that_start_at_once_share_one_key(tmp_path):
    """Two keys would give every user two pseudonyms."""
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_key(tmp_path / "key", "jsonl"), range(32)))
    assert len(keys) == 1


def test_a_key_is_made_where_there_are_no_hard_links(tmp_path, monkeypatch):
    """As on some network and FUSE file systems."""

    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    path = tmp_path / "key"
    key = load_key(path, "jsonl")
    assert load_key(path, "jsonl") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_the_fabricated_key_is_public_and_writes_no_file(tmp_path):
    """Its figures repeat on any machine."""
    assert load_key(tmp_path / "key", "fabricated") == FABRICATED_KEY
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not hex", b"abcd", b"\xff\xfe00"])
def test_a_broken_key_is_refused_and_not_replaced(tmp_path, content):
    """A new key in its place would orphan every memory."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"holds no pseudonym key.*64 hex digits"):
        load_key(path, "jsonl")
    assert path.read_bytes() == content


def test_a_folder_in_place_of_the_key_is_refused(tmp_path):
    """With a message, not with a traceback of the operating system."""
    with pytest.raises(SettingsError, match="IsADirectoryError"):
        load_key(tmp_path, "jsonl")
