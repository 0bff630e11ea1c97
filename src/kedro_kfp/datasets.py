"""What the planner asks of a dataset, read from the catalog's configuration.

No dataset is made and no credential is resolved: compiling needs neither the storage's client nor its keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kedro.io import CachedDataset, CatalogConfigResolver, DataCatalog, MemoryDataset, SharedMemoryDataset
from kedro.io.core import get_protocol_and_path, parse_dataset_definition

from kedro_kfp.credentials import passwords

METADATA_KEY = "kedro-kfp"
_PATH_KEYS = ("filepath", "filename", "path")  # those that Kedro itself reads as places


@dataclass(frozen=True)
class DatasetFacts:
    """One dataset: where it lives, and whether tasks side by side may write it."""

    name: str
    in_memory: bool
    local_paths: tuple[str, ...] = ()
    sharded: bool = False
    replaces_siblings: bool = False
    has_password: bool = False


def read_facts(names: Iterable[str], catalog: Mapping[str, Any]) -> dict[str, DatasetFacts]:
    """Facts of the named datasets, by the catalog's configuration (patterns included, credentials ignored)."""
    resolver = _resolver(catalog)
    return {name: _facts(name, resolver.resolve_pattern(name)) for name in names}


def in_one_place(names: Iterable[str], one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Which of the named datasets are stored, and by the same entry in both configurations of the catalog."""
    here, there = _resolver(one), _resolver(other)
    same = (name for name in names if here.resolve_pattern(name) == there.resolve_pattern(name))
    return [name for name in same if not _facts(name, here.resolve_pattern(name)).in_memory]


def _resolver(catalog: Mapping[str, Any]) -> CatalogConfigResolver:
    known = {name: _without_credentials(entry) for name, entry in catalog.items()}
    return CatalogConfigResolver(known, None, DataCatalog.default_runtime_patterns)


def _facts(name: str, entry: Mapping[str, Any]) -> DatasetFacts:
    kind, config = parse_dataset_definition({key: value for key, value in entry.items() if key != "validator"})
    if issubclass(kind, CachedDataset):
        inner = config["dataset"]
        return _facts(name, inner if isinstance(inner, dict) else {"type": inner})
    places = [str(config[key]) for key in _PATH_KEYS if config.get(key)]
    said = (config.get("metadata") or {}).get(METADATA_KEY, {})
    partitioned = any(base.__name__ == "PartitionedDataset" for base in kind.__mro__)
    return DatasetFacts(
        name=name,
        in_memory=issubclass(kind, MemoryDataset | SharedMemoryDataset) or any(map(_memory, places)),
        local_paths=tuple(path for place in places if (path := local_path(place))),
        sharded=bool(said.get("sharded", partitioned)),
        replaces_siblings=partitioned and bool(config.get("overwrite", False)),
        has_password=next(passwords(config), None) is not None,
    )


def local_path(place: str) -> str | None:
    """The path of a place on this machine; none for a URL of another."""
    protocol, path = get_protocol_and_path(place)
    return path if protocol == "file" else None


def _memory(place: str) -> bool:
    return get_protocol_and_path(place)[0] == "memory"


def _without_credentials(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {key: _without_credentials(value) for key, value in entry.items() if key != "credentials"}
    return entry
