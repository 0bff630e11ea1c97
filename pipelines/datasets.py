"""Kedro datasets with our promise: what is there is whole, or it is not there; on this machine and in a bucket alike.

`json` and `text` datasets are Kedro's own, written through a temporary name; a figure is not, because its import brings
pandas and plotly, a second of every process that reads the catalog; a table is a directory of parquet parts with its
manifest last; a workspace is a folder that nodes keep content-addressed work in. Each lies at a path or at a URL
(`imprint.storage`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import PlotlyPreview
from kedro_datasets.json import JSONDataset
from kedro_datasets.text import TextDataset

from imprint.data.atomic import write_bytes
from imprint.storage import address, at, fetch, refresh, scratch


class _Placed:
    """What lies at a path or a URL."""

    _place: Path

    @property
    def address(self) -> str:
        """Where it lies, as a person would write it."""
        return address(self._place)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self.address}


class _WholeFile(_Placed):
    """One file, brought here to be read by the dataset of Kedro's own that stands behind this class."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """`metadata` is for kedro-viz."""
        self._place = at(filepath)
        super().__init__(filepath=str(self._place), metadata=metadata)  # type: ignore[call-arg]

    def load(self) -> Any:
        """As Kedro's own."""
        fetch(self._place)
        return super().load()  # type: ignore[misc]

    def _exists(self) -> bool:
        return fetch(self._place).is_file()


class WholeJSON(_WholeFile, JSONDataset):
    """JSON for people and programs: indented, UTF-8, written whole or not at all."""

    def save(self, data: Any) -> None:
        """Replace the file."""
        write_bytes(self._place, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())


class WholeText(_WholeFile, TextDataset):
    """Text or HTML, written whole or not at all."""

    def save(self, data: str) -> None:
        """Replace the file."""
        write_bytes(self._place, data.encode())


class _OwnFile(_Placed, AbstractDataset[Any, Any]):
    """One file in a form of ours."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """`metadata` is for kedro-viz."""
        self._place = at(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        return fetch(self._place).is_file()


class WholeFigure(_OwnFile):
    """A plotly figure as JSON, written whole or not at all; kedro-viz draws it."""

    def load(self) -> Any:
        """The figure."""
        from plotly.io import from_json

        return from_json(self._text())

    def save(self, data: Any) -> None:
        """Replace the file."""
        write_bytes(self._place, data.to_json(remove_uids=True).encode())

    def preview(self) -> PlotlyPreview:
        """What kedro-viz draws."""
        return PlotlyPreview(json.loads(self._text()))

    def _text(self) -> str:
        if not self._exists():
            raise DatasetError(f"{self.address} is not there; run the stage that draws it first.")
        return self._place.read_text(encoding="utf-8")


class RecordLines(_OwnFile):
    """JSON lines, one record a line, written whole or not at all."""

    def load(self) -> list[dict[str, Any]]:
        """All records."""
        if not self._exists():
            raise DatasetError(f"{self.address} is not there; run the stage that writes it first.")
        return [json.loads(line) for line in self._place.read_text(encoding="utf-8").split("\n") if line]

    def save(self, data: list[dict[str, Any]]) -> None:
        """Replace the file."""
        lines = (json.dumps(record) + "\n" for record in data)  # ASCII: a line break of Unicode ends no record
        write_bytes(self._place, "".join(lines).encode())


class Table(_Placed, AbstractDataset[Any, Any]):
    """A table in our layout (`imprint.data.tables`).

    Loads as a lazy `pyarrow.dataset.Dataset`, or with `batches: true` as the record batches in the order written.
    Saves a `pyarrow.Table`, or the path of a finished table, which is moved here.
    """

    def __init__(self, *, filepath: str, batches: bool = False, metadata: dict[str, Any] | None = None) -> None:
        """`metadata` is for kedro-viz."""
        self._place = at(filepath)
        self._batches = batches
        self.metadata = metadata

    def load(self) -> Any:
        """The table, unread; `UnfinishedStoreError` where it was never finished."""
        from imprint.data.tables import open_table, read_batches

        return read_batches(self._place) if self._batches else open_table(self._place)

    def save(self, data: Any) -> None:
        """Replace the table."""
        from imprint.data.atomic import move_directory
        from imprint.data.tables import write_table

        if isinstance(data, Path):
            move_directory(data, self._place)
        else:
            write_table(self._place, data.to_batches(), data.schema)

    def fingerprint(self) -> str:
        """What names the rows that are there now; `UnfinishedStoreError` where the table was never finished."""
        from imprint.data.tables import table_fingerprint

        return table_fingerprint(self._place)

    def _exists(self) -> bool:
        return refresh(self._place)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self.address, "batches": self._batches}


class Workspace(_Placed, AbstractDataset[Path, Path]):
    """A path that nodes are given: a folder to keep content-addressed work in, or a credential's place."""

    def __init__(self, *, filepath: str, spool: bool = False, metadata: dict[str, Any] | None = None) -> None:
        """`spool`: what is made there is moved elsewhere or thrown away, so that no bucket needs to see it.

        `metadata` is for kedro-viz.
        """
        place = at(filepath)
        self._place = scratch(place) if spool else place
        self.metadata = metadata

    def load(self) -> Path:
        """The path; its parent exists afterwards."""
        self._place.parent.mkdir(parents=True, exist_ok=True)
        return self._place

    def save(self, data: Path) -> None:
        """Refused: a node writes inside the path, never over it."""
        raise DatasetError(f"{self.address} is a workspace and cannot be a node's output; make it an input.")

    def _exists(self) -> bool:
        return True
