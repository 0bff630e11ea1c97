"""Which rows memories are trained on, and what they are until they are trained on."""

import gc

import pyarrow as pa
import pyarrow.dataset as pads

from imprint.base.examples import Example
from imprint.memory.inject import read_training
from imprint.memory.settings import EarlyStopping

PATIENT = EarlyStopping(patience=1)


def test_validation_rows_are_read_only_where_training_may_stop_by_them(llama):
    """And never a test row, nor a row of a user without a memory."""
    splits = ["train", "train", "validation", "test"]
    rows = [
        {"user_id": user, "record_id": f"{user}-{n}", "query": "river", "response": f"{split} {user}", "persona": None}
        | {"split": split, "order": n, "attributes": None, "task": "dialogue"}
        for user in ("u1", "u2", "background")
        for n, split in enumerate(splits)
    ]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in rows[0] if name not in ("persona", "order", "attributes")),
            ("persona", pa.list_(pa.string())),
            ("order", pa.int64()),
            ("attributes", pa.map_(pa.string(), pa.string())),
        ]
    )
    table = pads.dataset(pa.Table.from_pylist(rows, schema=schema))
    roles = {"u1": "pilot", "u2": "reported", "background": "background"}
    index = [{"user_id": user, "role": role, "shard": 0, "fingerprint": user} for user, role in roles.items()]

    before = {id(one) for one in gc.get_objects() if type(one) is Example}
    off, on = read_training(llama, table, index), read_training(llama, table, index, PATIENT)
    assert {id(one) for one in gc.get_objects() if type(one) is Example} <= before  # rows are in arrays

    assert [one.user_id for one in off] == [one.user_id for one in on] == ["u1", "u2"]
    assert [[row.record_id for row in one.examples] for one in on] == [["u1-0", "u1-1"], ["u2-0", "u2-1"]]
    assert [list(one.examples) for one in off] == [list(one.examples) for one in on]
    assert [[row.record_id for row in one.validation] for one in on] == [["u1-2"], ["u2-2"]]
    assert [list(one.validation) for one in off] == [[], []]
