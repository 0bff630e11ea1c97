"""The memory store: one safetensors pack a shard, an index, a manifest last (design, section 4).

    <store>/shard-00000.safetensors    tensors `user_id/episode/site/a|b`; a user's bytes lie together
    <store>/shard-00000.index.parquet  a row per user and episode: where its bytes are, and what made them
    <store>/manifest.json              written last: without it the store is unfinished and is not read

A memory's bytes are checked against their sha256 before they are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imprint.base.load import BaseModelInUse
from imprint.data.atomic import new_directory, read_manifest
from imprint.errors import CorruptMemoryError, IncompatibleBaseError, UnfinishedStoreError, UnknownUserError
from imprint.memory.config import MemoryConfig
from imprint.memory.peft_format import export_peft
from imprint.memory.weights import Episode, Factors, Memory
from imprint.provenance import file_sha256

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
            ("base_fingerprint", pa.string()),
        ]
    )


def write_store(directory: Path, shards: Mapping[int, Iterable[Memory]], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write a whole store or nothing; returns its manifest (`facts`, users and bytes, and each file's sha256).

    One shard's memories are in memory at a time.
    """
    manifest: dict[str, Any] = {**facts, "users": 0, "bytes": 0}
    with new_directory(directory, manifest) as temporary:
        for shard, memories in sorted(shards.items()):
            users, size = _write_shard(temporary, shard, list(memories))
            manifest["users"] += users
            manifest["bytes"] += size
    return read_manifest(directory) or {}


def _write_shard(directory: Path, shard: int, memories: list[Memory]) -> tuple[int, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.torch import save_file

    pack = directory / PACK.format(shard)
    save_file({name: tensor for memory in memories for name, tensor in _tensors(memory)}, pack)
    places, start = _places(pack)
    with pack.open("rb") as stream:
        rows = [
            _index_row(stream, places[f"{memory.user_id}/{number}"], start, memory, number, episode)
            for memory in sorted(memories, key=lambda memory: memory.user_id)
            for number, episode in enumerate(memory.episodes)
        ]
    pq.write_table(pa.Table.from_pylist(rows, schema=index_schema()), directory / INDEX.format(shard))
    return len(memories), sum(row["length"] for row in rows)


def _tensors(memory: Memory) -> Iterator[tuple[str, Any]]:
    for number, episode in enumerate(memory.episodes):
        for site, factors in episode.factors.items():
            yield f"{memory.user_id}/{number}/{site}/a", factors.a.contiguous()
            yield f"{memory.user_id}/{number}/{site}/b", factors.b.contiguous()


def _places(pack: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Where each `user_id/episode` keeps each of its tensors, and where the file's data starts."""
    with pack.open("rb") as stream:
        length = int.from_bytes(stream.read(HEADER), "little")
        header = json.loads(stream.read(length))
    places: dict[str, dict[str, Any]] = {}
    for name, place in header.items():
        user_id, episode, *tensor = name.split("/")
        places.setdefault(f"{user_id}/{episode}", {})["/".join(tensor)] = place
    return places, HEADER + length


def _index_row(
    stream: Any, places: dict[str, Any], start: int, memory: Memory, number: int, episode: Episode
) -> dict[str, Any]:
    first = min(place["data_offsets"][0] for place in places.values())
    last = max(place["data_offsets"][1] for place in places.values())
    tensors = {
        name: {"shape": place["shape"], "at": place["data_offsets"][0] - first}
        for name, place in sorted(places.items())
    }
    stream.seek(start + first)
    content = stream.read(last - first)
    return {
        "user_id": memory.user_id,
        "episode": number,
        "offset": start + first,
        "length": last - first,
        "sha256": hashlib.sha256(content).hexdigest(),
        "tensors": json.dumps(tensors),
        "config": memory.config.model_dump_json(),
        "rows": episode.rows,
        "row_fingerprint": episode.row_fingerprint,
        "base_fingerprint": memory.base_fingerprint,
    }


class MemoryStore:
    """A finished store, read by user. Opening reads the indexes only; a memory's bytes are read when it is loaded."""

    def __init__(self, directory: Path) -> None:
        """Open the store at `directory`; `UnfinishedStoreError` without a manifest."""
        manifest = read_manifest(directory)
        if manifest is None:
            raise UnfinishedStoreError(
                f"memory store {directory} has no manifest.json: it was never finished. "
                "Next: run the inject stage again, which takes up the users that were done."
            )
        self.directory = directory
        self.manifest = manifest
        self._rows = self._read_indexes()

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

    def load(self, user_id: str) -> Memory:
        """The user's memory. `UnknownUserError` for anybody else, `CorruptMemoryError` if its bytes changed."""
        rows = self._rows_of(user_id)
        return Memory(
            user_id=user_id,
            base_fingerprint=rows[0]["base_fingerprint"],
            config=MemoryConfig.model_validate_json(rows[0]["config"]),
            episodes=tuple(Episode(row["rows"], row["row_fingerprint"], self._factors(row)) for row in rows),
        )

    def export_peft(self, user_id: str, directory: Path, base: BaseModelInUse) -> None:
        """The user's memory as a PEFT folder for `base`. `IncompatibleBaseError` for any other base."""
        memory = self.load(user_id)
        if memory.base_fingerprint != base.record.fingerprint:
            raise IncompatibleBaseError(memory.base_fingerprint, base.record.fingerprint)
        export_peft(memory, base.sites, base.record.path, directory)

    def _rows_of(self, user_id: str) -> list[dict[str, Any]]:
        if user_id not in self._rows:
            raise UnknownUserError(user_id, f"memory store {self.directory}")
        return self._rows[user_id]

    def _factors(self, row: dict[str, Any]) -> dict[str, Factors]:
        import torch

        with (self.directory / row["pack"]).open("rb") as stream:
            stream.seek(row["offset"])
            content = stream.read(row["length"])
        if hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise CorruptMemoryError(
                f"memory of {row['user_id']}, episode {row['episode']}, in {row['pack']}: its bytes do not match their "
                "sha256. Next: restore the store from a copy, or delete it and run the inject stage again."
            )
        whole = torch.frombuffer(bytearray(content), dtype=torch.float32)
        tensors = {}
        for name, place in json.loads(row["tensors"]).items():
            size = place["shape"][0] * place["shape"][1]
            first = place["at"] // whole.element_size()
            tensors[name] = whole[first : first + size].reshape(place["shape"])
        sites = sorted({name[: -len("/a")] for name in tensors})
        return {site: Factors(tensors[f"{site}/a"], tensors[f"{site}/b"]) for site in sites}

    def _read_indexes(self) -> dict[str, list[dict[str, Any]]]:
        import pyarrow.parquet as pq

        rows: dict[str, list[dict[str, Any]]] = {}
        for name in sorted(self.manifest["files"]):  # what the manifest lists, never what else lies there
            index = self.directory / name
            if not name.endswith(".index.parquet"):
                continue
            if not index.is_file() or file_sha256(index) != self.manifest["files"][name]["sha256"]:
                raise CorruptMemoryError(
                    f"index {name} of memory store {self.directory} is not the one that was written (sha256), so it "
                    "could lead to somebody else's memory. Next: restore the store, or delete it and inject again."
                )
            pack = name.replace(".index.parquet", ".safetensors")
            for row in pq.read_table(index, schema=index_schema()).to_pylist():
                rows.setdefault(row["user_id"], []).append({**row, "pack": pack})
        for episodes in rows.values():
            episodes.sort(key=lambda row: row["episode"])
        return rows
