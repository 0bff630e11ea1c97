"""Pseudonyms: keyed hashes that name users and records outside the raw data.

Without the key a pseudonym cannot be computed from a raw id, and the raw id not from the pseudonym; with the same key
and corpus name, every ingestion gives the same ones. The key is a credential.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from imprint.errors import SettingsError
from imprint.storage import address, beside, fetch, flush_new

FABRICATED_KEY = bytes.fromhex("696d7072696e7420666162726963617465642075736572732c207075626c6963")
"""The public key of the fabricated corpus: nobody is behind its users, and its figures repeat on any machine."""

KEY_BYTES = 32


def pseudonym(key: bytes, corpus: str, raw_id: str) -> str:
    """`u` and 16 hex digits of HMAC-SHA256(key, corpus ":" raw id)."""
    return "u" + _digest(key, f"{corpus}:{raw_id}")


def record_id(key: bytes, corpus: str, raw_user: str | None, source_id: str) -> str:
    """`r` and 16 hex digits; unique where `source_id` is unique within a user, the same at every ingestion.

    A row without user has its own name space, so it never meets a user's row.
    """
    owner = "" if raw_user is None else f"u{raw_user}"
    return "r" + _digest(key, f"record\x1f{corpus}\x1f{owner}\x1f{source_id}")


def name_hash(key: bytes, corpus: str, name: str) -> str:
    """`n` and 16 hex digits: a name, or a word of one, that texts are searched for (`data.masking`).

    Another name space than pseudonyms', so that who holds both and not the key cannot say whose name it is.
    """
    return "n" + _digest(key, f"name\x1f{corpus}\x1f{name}")


def _digest(key: bytes, text: str) -> str:
    # a name in a JSON file may hold half of a surrogate pair
    return hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]


def load_key(path: Path, corpus_format: str) -> bytes:
    """The key for a corpus: public for `fabricated`, else the 32 bytes kept as hex at `path`.

    The file is made on first use, readable by its owner alone, whole or not at all (where the file system has hard
    links); of two processes that start at once, both get the key of the first. Raises `SettingsError` for a file that
    holds no such key: a new key would give every user a second pseudonym.
    """
    if corpus_format == "fabricated":
        return FABRICATED_KEY
    if not fetch(path).exists():
        _write_new_key(path)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (ValueError, OSError) as error:
        raise _broken(path, type(error).__name__) from error
    if len(key) != KEY_BYTES:
        raise _broken(path, f"{len(key)} bytes")
    return key


def _write_new_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES).hex() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        _name_once(temporary, path)
        if not flush_new(path):
            fetch(path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def _name_once(temporary: Path, path: Path) -> None:
    """`temporary` under the name `path` too; `FileExistsError` where there is one, which a rename would overwrite."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: as exclusive, but a kill in between leaves a broken key
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, temporary.read_bytes())
            os.fsync(handle)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(handle)


def _broken(path: Path, found: str) -> SettingsError:
    return SettingsError(
        f"the file {address(path)!r} holds no pseudonym key (found: {found}); "
        f"needed are {KEY_BYTES * 2} hex digits. "
        "Next: restore the file from where credentials are kept; only if no data was ingested with it, delete it."
    )
