"""The memory store: one safetensors pack a shard, an index, a manifest last.

    <store>/shard-00000.safetensors    tensors `user_id/episode/site/a|b`; a user's bytes lie together
    <store>/shard-00000.index.parquet  a row per user and episode: where its bytes are, and what made them
    <store>/manifest.json              written last: without it the store is unfinished and is not read

A memory's bytes are checked against their sha256 before they are used.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from imprint.base.load import BaseModelInUse
from imprint.data.atomic import new_directory, read_manifest
from imprint.errors import (
    CorruptMemoryError,
    IncompatibleBaseError,
    StoreError,
    UnfinishedStoreError,
    UnknownUserError,
)
from imprint.memory.config import MemoryConfig
from imprint.memory.peft_format import export_peft
from imprint.memory.weights import Episode, Factors, Memory
from imprint.provenance import file_sha256
from imprint.storage import address, fetch_listed, read_span

if TYPE_CHECKING:
    import pyarrow as pa

PACK = "shard-{:05d}.safetensors"
INDEX = "shard-{:05d}.index.parquet"
HEADER = 8
"""Bytes before a safetensors header: its length, little-endian."""


def index_schema() -> pa.Schema:
    """One row an episode. `offset` and `length` are bytes in the pack file; `tensors` says what lies there."""
    import pyarrow as pa

    return pa.schema(
        [
            ("user_id", pa.string()),
            ("episode", pa.int32()),
            ("offset", pa.int64()),
            ("length", pa.int64()),
            ("sha256", pa.string()),
            ("tensors", pa.string()),
            ("config", pa.string()),
            ("rows", pa.int64()),
            ("row_fingerprint", pa.string()),
            ("epochs", pa.int32()),  # null in stores from before training could stop early
            ("base_fingerprint", pa.string()),
        ]
    )


def write_store(directory: Path, shards: Mapping[int, Iterable[Memory]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write a whole store or nothing; returns its manifest (`facts`, users and bytes, and each file's sha256).

    One memory is in memory at a time.
    """
    manifest: dict[str, Any] = {**facts, "users": 0, "bytes": 0}
    with new_directory(directory, manifest) as temporary:
        for shard, memories in sorted(shards.items()):
            users, size = _write_shard(temporary, shard, memories)
            manifest["users"] += users
            manifest["bytes"] += size
    return read_manifest(directory) or {}


def _write_shard(directory: Path, shard: int, memories: Iterable[Memory]) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    header: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    users = size = 0
    with tempfile.TemporaryFile(dir=directory) as data:
        for memory in memories:
            users += 1
            for number, episode in enumerate(memory.episodes):
                content, tensors = _laid_out(episode)
                for name, place in tensors.items():
                    header[f"{memory.user_id}/{number}/{name}"] = _header_entry(place, size)
                rows.append(_index_row(memory, number, episode, content, tensors, size))
                data.write(content)
                size += len(content)
        start = _write_pack(directory / PACK.format(shard), header, data)
    for row in rows:
        row["offset"] += start
    rows.sort(key=lambda row: (row["user_id"], row["episode"]))
    pq.write_table(pa.Table.from_pylist(rows, schema=index_schema()), directory / INDEX.format(shard))
    return users, size


def _laid_out(episode: Episode) -> tuple[bytes, dict[str, Any]]:
    """An episode's factors end to end, and the shape and place of each, `site/a` and `site/b`."""
    pieces: list[bytes] = []
    tensors, at = {}, 0
    for site, factors in sorted(episode.factors.items()):
        for letter, factor in zip("ab", factors, strict=True):
            tensors[f"{site}/{letter}"] = {"shape": list(factor.shape), "at": at}
            pieces.append(factor.detach().contiguous().numpy().astype("<f4", copy=False).tobytes())
            at += len(pieces[-1])
    return b"".join(pieces), tensors


def _header_entry(place: Mapping[str, Any], before: int) -> dict[str, Any]:
    first = before + place["at"]
    last = first + 4 * math.prod(place["shape"])
    return {"dtype": "F32", "shape": place["shape"], "data_offsets": [first, last]}


def _write_pack(path: Path, header: Mapping[str, Any], data: IO[bytes]) -> int:
    """A safetensors file of this header and these bytes; where its data starts (the header's size is known last)."""
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % HEADER)  # the format wants its data aligned
    data.seek(0)
    with path.open("wb") as stream:
        stream.write(len(head).to_bytes(HEADER, "little") + head)
        shutil.copyfileobj(data, stream)
    return HEADER + len(head)


def _index_row(
    memory: Memory, number: int, episode: Episode, content: bytes, tensors: Mapping[str, Any], before: int
) -> dict[str, Any]:
    return {
        "user_id": memory.user_id,
        "episode": number,
        "offset": before,
        "length": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "tensors": json.dumps(tensors, sort_keys=True),
        "config": memory.config.model_dump_json(),
        "rows": episode.rows,
        "row_fingerprint": episode.row_fingerprint,
        "epochs": episode.epochs,
        "base_fingerprint": memory.base_fingerprint,
    }


class MemoryStore:
    """Finished stores, read by user. Opening reads the indexes only; a memory's bytes are read when it is loaded."""

    def __init__(self, directory: Path, *more: Path) -> None:
        """Open the store at `directory`, and with it those of other shards; `UnfinishedStoreError` without a manifest.

        Somebody with memories in two of them raises `StoreError`.
        """
        self.directory = directory
        self._manifests: dict[Path, dict[str, Any]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        for one in (directory, *more):
            self._manifests[one] = _read_manifest(one)
            rows = _read_indexes(one, self._manifests[one])
            if twice := sorted(rows.keys() & self._rows.keys()):
                raise StoreError(
                    f"user {twice[0]} has memories in {address(one)} and in another store that was opened with it; "
                    "allowed is one place. Next: open the stores of one run and method, each shard's once."
                )
            self._rows |= rows

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Everybody with a memory here, sorted."""
        return tuple(sorted(self._rows))

    def __contains__(self, user_id: object) -> bool:
        """Whether the user has a memory here."""
        return user_id in self._rows

    def bytes_of(self, user_id: str) -> int:
        """Bytes the user's factors take in the pack. `UnknownUserError` for anybody without a memory."""
        return sum(row["length"] for row in self._rows_of(user_id))

    def config_of(self, user_id: str) -> MemoryConfig:
        """The config of the user's memory. `UnknownUserError` for anybody without one."""
        return MemoryConfig.model_validate_json(self._rows_of(user_id)[0]["config"])

    def row_fingerprint_of(self, user_id: str) -> str:
        """The fingerprint of the history that the memory was made of. `UnknownUserError` for anybody without one."""
        made_of: str = self._manifests[self._rows_of(user_id)[0]["store"]]["histories"][user_id]
        return made_of

    def load(self, user_id: str) -> Memory:
        """The user's memory. `UnknownUserError` for anybody else, `CorruptMemoryError` if its bytes changed."""
        rows, config = self._rows_of(user_id), self.config_of(user_id)
        return Memory(
            user_id=user_id,
            base_fingerprint=rows[0]["base_fingerprint"],
            config=config,
            episodes=tuple(
                Episode(row["rows"], row["row_fingerprint"], row["epochs"] or config.epochs, self._factors(row))
                for row in rows
            ),
        )

    def export_peft(self, user_id: str, directory: Path, base: BaseModelInUse) -> None:
        """The user's memory as a PEFT folder for `base`. `IncompatibleBaseError` for any other base."""
        memory = self.load(user_id)
        if memory.base_fingerprint != base.record.fingerprint:
            raise IncompatibleBaseError(memory.base_fingerprint, base.record.fingerprint)
        export_peft(memory, base.sites, base.record.path, directory)

    def _rows_of(self, user_id: str) -> list[dict[str, Any]]:
        if user_id not in self._rows:
            raise UnknownUserError(user_id, f"memory store {address(self.directory)}")
        return self._rows[user_id]

    def _factors(self, row: dict[str, Any]) -> dict[str, Factors]:
        import torch

        store = row["store"]
        content = read_span(store, self._manifests[store], row["pack"], row["offset"], row["length"])
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise CorruptMemoryError(
                f"memory of {row['user_id']}, episode {row['episode']}, in {row['pack']}: its bytes do not match "
                "their sha256. Next: restore the store from a copy, or delete it and run the inject stage again."
            )
        whole = torch.frombuffer(bytearray(content), dtype=torch.float32)
        tensors = {}
        for name, place in json.loads(row["tensors"]).items():
            size = place["shape"][0] * place["shape"][1]
            first = place["at"] // whole.element_size()
            tensors[name] = whole[first : first + size].reshape(place["shape"])
        sites = sorted({name[: -len("/a")] for name in tensors})
        return {site: Factors(tensors[f"{site}/a"], tensors[f"{site}/b"]) for site in sites}


def _read_manifest(directory: Path) -> dict[str, Any]:
    manifest = read_manifest(directory)
    if manifest is None:
        raise UnfinishedStoreError(
            f"memory store {address(directory)} has no manifest.json: it was never finished. "
            "Next: run the inject stage again, which takes up the users that were done."
        )
    return manifest


def _read_indexes(directory: Path, manifest: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By user, an entry an episode: where its bytes are. `CorruptMemoryError` where an index is another."""
    import pyarrow.parquet as pq

    rows: dict[str, list[dict[str, Any]]] = {}
    # what the manifest lists, never what else lies there
    names = sorted(name for name in manifest["files"] if name.endswith(".index.parquet"))
    fetch_listed(directory, manifest, names)
    for name in names:
        index = directory / name
        if not index.is_file() or file_sha256(index) != manifest["files"][name]["sha256"]:
            raise CorruptMemoryError(
                f"index {name} of memory store {address(directory)} is not the one that was written (sha256), so it "
                "could lead to somebody else's memory. Next: restore the store, or delete it and inject again."
            )
        pack = name.replace(".index.parquet", ".safetensors")
        for row in pq.read_table(index, schema=index_schema()).to_pylist():
            rows.setdefault(row["user_id"], []).append({**row, "store": directory, "pack": pack})
    for episodes in rows.values():
        episodes.sort(key=lambda row: row["episode"])
    return rows
