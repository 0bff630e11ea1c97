"""Tables as partition writes them, from interactions written by hand."""

from dataclasses import replace

from toys import invented_rows

from imprint.data.tables import open_table, write_table
from imprint.schema import partitioned_schema


def history(user, task, responses, split="test", first=0, about="", query=None):
    """(interaction, split) for each response, in time order; `about` tells record ids of one task apart."""
    rows = invented_rows(user, len(responses), first=first)
    return [
        (
            replace(
                row,
                record_id=f"{user}-{task}{about}-{row.order}",
                query=row.query if query is None else query,
                response=response,
                task=task,
            ),
            split,
        )
        for row, response in zip(rows, responses, strict=True)
    ]


def record(row, split, shard=0):
    """A row of the table."""
    return {
        "user_id": row.user_id,
        "record_id": row.record_id,
        "corpus": "by hand",
        "task": row.task,
        "time": None,
        "order": row.order,
        "query": row.query,
        "response": row.response,
        "persona": list(row.persona),
        "attributes": list(row.attributes),
        "split": split,
        "shard": shard,
    }


def table_of(rows, folder):
    """What partition writes of these rows, opened."""
    import pyarrow as pa

    records = [record(row, split) for row, split in rows]
    schema = partitioned_schema()
    batch = pa.Table.from_pylist(records, schema=schema).combine_chunks().to_batches()
    write_table(folder / "histories", batch, schema)
    return open_table(folder / "histories")


def rows_of(rows, split):
    """By user, their interactions of one split."""
    users = dict.fromkeys(row.user_id for row, _ in rows)
    return {user: [row for row, place in rows if row.user_id == user and place == split] for user in users}


def index_of(rows, role="reported"):
    """The user index of these rows, everybody of one role."""
    return [
        {"user_id": user, "role": role, "fingerprint": user} for user in dict.fromkeys(row.user_id for row, _ in rows)
    ]
