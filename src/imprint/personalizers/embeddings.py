"""Vectors of users' interactions, one a piece, computed once and kept on disk, a file a user (methods, 3.7).

A file is used only for the very texts it was made of, by the very encoder: its folder's name and its metadata say so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from imprint.base.examples import Interaction
from imprint.data.atomic import write_bytes
from imprint.errors import UnknownUserError
from imprint.personalizers.encoders import TextEncoder
from imprint.personalizers.protocol import Histories
from imprint.personalizers.texts import about, known_by
from imprint.provenance import fingerprint, fingerprint_of_rows
from imprint.storage import fetch, remove


class HistoryEmbeddings:
    """Half-precision vectors [interactions, width] by user, in time order."""

    def __init__(self, encoder: TextEncoder, template: str | None, workspace: Path) -> None:
        """Files lie in a folder of `workspace`.

        Texts are `template`, or what the task says (`Task.known_by`), with `{query}`, what was asked about, and
        `{response}` filled in.
        """
        self._encoder, self._template = encoder, template
        self._directory = workspace / f"histories-{fingerprint(encoder.fingerprint, template)}"
        self._vectors: dict[str, Tensor] = {}

    def keep(self, histories: Histories) -> float:
        """Have the vectors of these users' interactions, from disk where they are there.

        Returns the seconds that encoding those from disk had taken.
        """
        spared = 0.0
        for user_id, rows in histories.items():
            self._vectors[user_id], seconds = self._kept(user_id, [self._told(row) for row in rows], rows)
            spared += seconds
        return spared

    def of(self, user_id: str) -> Tensor:
        """The user's vectors, [interactions, width] fp32. `UnknownUserError` for a user without any kept."""
        if user_id not in self._vectors:
            raise UnknownUserError(user_id, "history embeddings")
        return self._vectors[user_id].float()

    def bytes_of(self, user_id: str) -> int:
        """Bytes the user's vectors take."""
        vectors = self._vectors[user_id]
        return vectors.numel() * vectors.element_size()

    def forget(self, user_id: str) -> None:
        """Drop the user's vectors here and on disk."""
        self._vectors.pop(user_id, None)
        remove(self._file(user_id))

    def _told(self, row: Interaction) -> tuple[str, str, str]:
        return known_by(row, self._template), about(row), row.response

    def _kept(
        self, user_id: str, told: Sequence[tuple[str, str, str]], rows: Sequence[Interaction]
    ) -> tuple[Tensor, float]:
        """The user's vectors, and the seconds they took when that was not now."""
        from safetensors import safe_open
        from safetensors.torch import save

        made_of = fingerprint_of_rows("\x1f".join([row.record_id, *one]) for row, one in zip(rows, told, strict=True))
        file = fetch(self._file(user_id))
        if file.is_file():
            with safe_open(file, framework="pt") as kept:
                metadata = kept.metadata() or {}
                if metadata.get("rows") == made_of and "seconds" in metadata:
                    return kept.get_tensor("vectors"), float(metadata["seconds"])
        started = time.perf_counter()
        # a user's texts alone, never beside another's: rounding would make a vector depend on the company
        vectors = self._encoder.embed([self._encoder.filled(*one) for one in told]).to(torch.float16).cpu()
        seconds = time.perf_counter() - started
        write_bytes(file, save({"vectors": vectors}, metadata={"rows": made_of, "seconds": f"{seconds:.4f}"}))
        return vectors, 0.0

    def _file(self, user_id: str) -> Path:
        return self._directory / f"{user_id}.safetensors"
