"""The records of an evaluation as Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def scores_table(records: Sequence[dict[str, Any]]) -> pa.Table:
    """One row a test row and method: `nats` summed over `tokens` response tokens."""
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("method", "user_id", "record_id")]
    return pa.Table.from_pylist(
        list(records), schema=pa.schema([*texts, ("nats", pa.float64()), ("tokens", pa.int64())])
    )


def responses_table(records: Sequence[dict[str, Any]]) -> pa.Table:
    """One row a test query and method: the user's own response as `reference`, the method's as `response`."""
    import pyarrow as pa

    names = ("method", "user_id", "record_id", "query", "reference", "response")
    return pa.Table.from_pylist(list(records), schema=pa.schema([(name, pa.string()) for name in names]))
