"""A dataset for each shard, so that tasks side by side never write one file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import parse_dataset_definition

from pipelines.datasets import Table


class Sharded(AbstractDataset[dict[str, Any], Callable[[str], Any]]):
    """One dataset of another type a shard, all in one folder, each under its shard's name.

    Saves the shards it is given and leaves the others as they are: each is written whole or not at all, as its type
    does. Loads as a function from a shard's name to what was saved for it. The folder is never listed: which shards
    there are is said by `shard_names`, and what an earlier run with other shards left there is nobody's.
    """

    def __init__(
        self, *, filepath: str, dataset: str | dict[str, Any], suffix: str = "", metadata: dict[str, Any] | None = None
    ) -> None:
        """`dataset` is the type of a shard's dataset, with its options but for `filepath`; `suffix` ends its name."""
        self._filepath, self._suffix = filepath, suffix
        self._kind, self._options = parse_dataset_definition(
            dataset if isinstance(dataset, dict) else {"type": dataset}
        )
        self._touched: dict[str, AbstractDataset[Any, Any]] = {}
        self.metadata = metadata

    def load(self) -> Callable[[str], Any]:
        """What gives the data of the shard that it is asked for."""
        return lambda name: self._of(name).load()

    def save(self, data: dict[str, Any]) -> None:
        """Replace these shards' data."""
        for name, mine in data.items():
            self._of(name).save(mine)

    def fingerprint(self) -> dict[str, str]:
        """By shard, what names the rows of the tables read or written here since last asked; empty for other types."""
        tables = {name: dataset for name, dataset in sorted(self._touched.items()) if isinstance(dataset, Table)}
        self._touched.clear()
        return {name: table.fingerprint() for name, table in tables.items() if table.exists()}

    def _of(self, name: str) -> AbstractDataset[Any, Any]:
        options = {**self._options, "filepath": f"{self._filepath}/{name}{self._suffix}"}
        self._touched[name] = self._kind(**options)
        return self._touched[name]

    def _exists(self) -> bool:
        return (
            False  # whether every shard is there cannot be known from here; finished work is found by its name anyway
        )

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "dataset": self._kind.__name__}
