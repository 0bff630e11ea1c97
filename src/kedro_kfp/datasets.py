"""What the planner asks of a dataset, read from the catalog's configuration.

No dataset is made and no credential is resolved: compiling needs neither the storage's client nor its keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kedro.io import CachedDataset, CatalogConfigResolver, DataCatalog, MemoryDataset, SharedMemoryDataset
from kedro.io.core import get_protocol_and_path, parse_dataset_definition

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


def read_facts(names: Iterable[str], catalog: Mapping[str, Any]) -> dict[str, DatasetFacts]:
    """Facts of the named datasets, by the catalog's configuration (patterns included, credentials ignored)."""
    known = {name: _without_credentials(entry) for name, entry in catalog.items()}
    resolver = CatalogConfigResolver(known, None, DataCatalog.default_runtime_patterns)
    return {name: _facts(name, resolver.resolve_pattern(name)) for name in names}


def _facts(name: str, entry: Mapping[str, Any]) -> DatasetFacts:
    kind, config = parse_dataset_definition({key: value for key, value in entry.items() if key != "validator"})
    if issubclass(kind, CachedDataset):
        inner = config["dataset"]
        return _facts(name, inner if isinstance(inner, dict) else {"type": inner})
    places = [get_protocol_and_path(str(config[key])) for key in _PATH_KEYS if config.get(key)]
    said = (config.get("metadata") or {}).get(METADATA_KEY, {})
    partitioned = any(base.__name__ == "PartitionedDataset" for base in kind.__mro__)
    return DatasetFacts(
        name=name,
        in_memory=issubclass(kind, MemoryDataset | SharedMemoryDataset) or ("memory" in dict(places)),
        local_paths=tuple(path for protocol, path in places if protocol == "file"),
        sharded=bool(said.get("sharded", partitioned)),
        replaces_siblings=partitioned and bool(config.get("overwrite", False)),
    )


def _without_credentials(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {key: _without_credentials(value) for key, value in entry.items() if key != "credentials"}
    return entry
