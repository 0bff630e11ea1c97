"""The records of an evaluation as Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def scores_table(records: Sequence[dict[str, Any]]) -> pa.Table:
    """One row a test row and method: `nats` summed over `tokens` response tokens.

    Where the answer is one of a set, also the right one (`gold`), and the `chosen` label or the right item's `rank`.
    """
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("method", "user_id", "record_id", "task")]
    loss = [("nats", pa.float64()), ("tokens", pa.int64())]
    choice = [("gold", pa.string()), ("chosen", pa.string()), ("rank", pa.float64())]
    return pa.Table.from_pylist(list(records), schema=pa.schema([*texts, *loss, *choice]))


def responses_table(records: Sequence[dict[str, Any]]) -> pa.Table:
    """One row a test query and method: the user's own response as `reference`, the method's as `response`.

    `won` says how it fared before the judge, and `own_won` how the user's own response did against it (`wins`).
    """
    import pyarrow as pa

    names = ("method", "user_id", "record_id", "task", "query", "reference", "response")
    texts = [(name, pa.string()) for name in names]
    verdicts = [(name, pa.float64()) for name in ("won", "own_won")]
    return pa.Table.from_pylist(list(records), schema=pa.schema([*texts, *verdicts]))
