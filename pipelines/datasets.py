"""Kedro datasets with our promise: what is on disk is whole, or it is not there.

`json`, `text` and `plotly` datasets are Kedro's own, written through a temporary name; a table is a directory of
parquet parts with its manifest last; a workspace is a folder that nodes keep content-addressed work in.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets.json import JSONDataset
from kedro_datasets.plotly import JSONDataset as PlotlyDataset
from kedro_datasets.text import TextDataset

from imprint.data.atomic import write_bytes


class WholeJSON(JSONDataset):
    """JSON for people and programs: indented, UTF-8, written whole or not at all."""

    def save(self, data: Any) -> None:
        """Replace the file."""
        write_bytes(Path(self._filepath), (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())


class WholeText(TextDataset):
    """Text or HTML, written whole or not at all."""

    def save(self, data: str) -> None:
        """Replace the file."""
        write_bytes(Path(self._filepath), data.encode())


class WholeFigure(PlotlyDataset):
    """A plotly figure as JSON, written whole or not at all; kedro-viz draws it."""

    def save(self, data: Any) -> None:
        """Replace the file."""
        write_bytes(Path(self._filepath), data.to_json(remove_uids=True).encode())


class RecordLines(AbstractDataset[list[dict[str, Any]], list[dict[str, Any]]]):
    """JSON lines, one record a line, written whole or not at all."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """`metadata` is for kedro-viz."""
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> list[dict[str, Any]]:
        """All records."""
        if not self._exists():
            raise DatasetError(f"{self._filepath} is not there; run the stage that writes it first.")
        return [json.loads(line) for line in self._filepath.read_text(encoding="utf-8").split("\n") if line]

    def save(self, data: list[dict[str, Any]]) -> None:
        """Replace the file."""
        lines = (json.dumps(record) + "\n" for record in data)  # ASCII: a line break of Unicode ends no record
        write_bytes(self._filepath, "".join(lines).encode())

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


class Table(AbstractDataset[Any, Any]):
    """A table in our layout (`imprint.data.tables`).

    Loads as a lazy `pyarrow.dataset.Dataset`, or with `batches: true` as the record batches in the order written.
    Saves a `pyarrow.Table`, or the path of a finished table, which is moved here.
    """

    def __init__(self, *, filepath: str, batches: bool = False, metadata: dict[str, Any] | None = None) -> None:
        """`metadata` is for kedro-viz."""
        self._filepath = Path(filepath)
        self._batches = batches
        self.metadata = metadata

    def load(self) -> Any:
        """The table, unread; `UnfinishedStoreError` where it was never finished."""
        from imprint.data.tables import open_table, read_batches

        return read_batches(self._filepath) if self._batches else open_table(self._filepath)

    def save(self, data: Any) -> None:
        """Replace the table."""
        from imprint.data.atomic import move_directory
        from imprint.data.tables import write_table

        if isinstance(data, Path):
            move_directory(data, self._filepath)
        else:
            write_table(self._filepath, data.to_batches(), data.schema)

    def fingerprint(self) -> str:
        """What names the rows that are there now; `UnfinishedStoreError` where the table was never finished."""
        from imprint.data.tables import table_fingerprint

        return table_fingerprint(self._filepath)

    def _exists(self) -> bool:
        return (self._filepath / "manifest.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "batches": self._batches}


class Workspace(AbstractDataset[Path, Path]):
    """A path that nodes are given: a folder to keep content-addressed work in, or a credential's place."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """`metadata` is for kedro-viz."""
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """The path; its parent exists afterwards."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: Path) -> None:
        """Refused: a node writes inside the path, never over it."""
        raise DatasetError(f"{self._filepath} is a workspace and cannot be a node's output; make it an input.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
