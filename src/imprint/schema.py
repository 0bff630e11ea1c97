"""The tables that cross between stages, as Arrow schemas.

`RAW` is what a reader yields, before pseudonyms; `INGESTED` what ingest writes; `INTERACTIONS` what validation lets
through; `PARTITIONED` adds the split and the shard. `pyarrow` is imported when a schema is asked for, so that the
command line stays quick.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SPLITS = ("train", "validation", "test")
ROLES = ("background", "pilot", "reported")
"""What a user is for: background users train the base model, pilots are searched on, reported users are measured."""
CATEGORY_SEPARATOR = "|"
"""Between the categories in the attribute `categories`. Attributes that readers share: `dialogue`, `counterpart`, and
of an item `item` (its id in the corpus), `title`, `rating` (what the user gave it) and `categories`."""


@cache
def raw_schema() -> pa.Schema:
    """One row a reader met. `user` is the raw id and never leaves ingest; `problem` says why a row is unreadable."""
    import pyarrow as pa

    return pa.schema(
        [
            ("user", pa.string()),
            ("source_id", pa.string()),  # unique within (corpus, user), the same at every reading
            ("where", pa.string()),  # file:line, for a person who wants to look
            ("task", pa.string()),
            ("time", pa.timestamp("us", tz="UTC")),
            ("query", pa.string()),
            ("response", pa.string()),
            ("persona", pa.list_(pa.string())),
            ("attributes", pa.map_(pa.string(), pa.string())),
            ("problem", pa.string()),
        ]
    )


@cache
def interactions_schema() -> pa.Schema:
    """`interactions`: one row an interaction."""
    import pyarrow as pa

    label = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            ("user_id", pa.string()),
            ("record_id", pa.string()),
            ("corpus", label),
            ("task", label),
            ("time", pa.timestamp("us", tz="UTC")),
            ("order", pa.int64()),
            ("query", pa.string()),
            ("response", pa.string()),
            ("persona", pa.list_(pa.string())),
            ("attributes", pa.map_(pa.string(), pa.string())),
        ]
    )


@cache
def ingested_schema() -> pa.Schema:
    """`interactions` before validation: anything may be null, and `source` and `problem` are still there."""
    import pyarrow as pa

    return pa.schema([*interactions_schema(), ("source", pa.string()), ("problem", pa.string())])


@cache
def partitioned_schema() -> pa.Schema:
    """`interactions` with the split and the shard, sorted by user and order."""
    import pyarrow as pa

    return pa.schema([*interactions_schema(), ("split", pa.string()), ("shard", pa.int32())])


@cache
def quarantine_schema() -> pa.Schema:
    """One quarantined row: where it came from, every check it failed, and the row itself (pseudonymised) as JSON."""
    import pyarrow as pa

    return pa.schema(
        [
            ("user_id", pa.string()),
            ("record_id", pa.string()),
            ("source", pa.string()),
            ("checks", pa.list_(pa.string())),
            ("row", pa.string()),
        ]
    )


@cache
def user_index_schema() -> pa.Schema:
    """One row a user: every later stage iterates this, never what is on disk."""
    import pyarrow as pa

    return pa.schema(
        [
            ("user_id", pa.string()),
            ("shard", pa.int32()),
            ("role", pa.string()),
            ("train", pa.int64()),
            ("validation", pa.int64()),
            ("test", pa.int64()),
            ("fingerprint", pa.string()),  # of the user's training rows, in order
        ]
    )


@cache
def study_groups_schema() -> pa.Schema:
    """One row a user with a study beyond the population's: the user's shard, the study, and the shard that runs it."""
    import pyarrow as pa

    return pa.schema(
        [("user_id", pa.string()), ("shard", pa.int32()), ("study", pa.string()), ("study_shard", pa.int32())]
    )


@cache
def own_choices_schema() -> pa.Schema:
    """One row a study that found a config: the trial it comes from, the config as JSON, and the search it was in."""
    import pyarrow as pa

    return pa.schema(
        [
            ("study", pa.string()),
            ("tid", pa.int64()),
            ("objective_value", pa.float64()),
            ("config", pa.string()),
            ("search", pa.string()),  # the fingerprint in its journal's name
        ]
    )
