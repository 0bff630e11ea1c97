"""Which users share a study, and which shard runs it: each user alone, or cohorts by what the base makes of their rows.

A user's own study runs in the user's shard. A cohort's users are in many shards, so that all users are grouped before
any is searched for, and a whole cohort is then given to one shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from imprint.base.histories import IndexRow, users_of
from imprint.base.load import BaseModelInUse
from imprint.data.shards import shard_number
from imprint.schema import study_groups_schema
from imprint.search.objective import Pilot, read_pilots
from imprint.search.settings import SearchSettings

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.dataset as pads

ROWS = 64
"""Training rows of a user that their place among the others is taken from: their latest."""


def study_groups(
    load: Callable[[], BaseModelInUse],
    table: pads.Dataset,
    index: Sequence[IndexRow],
    settings: SearchSettings,
    seed: int,
) -> pa.Table:
    """`schema.study_groups_schema`: the study of every reported user, shard by shard; none in scope `population`.

    Only scope `cohort` needs the base, which `load` gives, and the histories in `table`, one shard's at a time.
    """
    import pyarrow as pa

    users = sorted(users_of(index, "reported"), key=lambda user: (user["shard"], user["user_id"]))
    rows = []
    if settings.scope == "user":
        rows = [_row(user, f"user/{user['user_id']}", user["shard"]) for user in users]
    elif settings.scope == "cohort" and users:
        base = load()
        by_shard = (list(mine) for _, mine in groupby(users, key=itemgetter("shard")))
        pilots = (pilot for mine in by_shard for pilot in read_pilots(base, table, mine, settings, "reported"))
        labels = cohorts(history_vectors(base, pilots), settings.cohorts, seed)
        runs_in = _balanced(labels, [user["shard"] for user in users])
        rows = [_row(user, f"cohort/{label}", runs_in[label]) for user, label in zip(users, labels, strict=True)]
    return pa.Table.from_pylist(rows, schema=study_groups_schema())


def _row(user: IndexRow, study: str, runs_in: int) -> dict[str, str | int]:
    return {"user_id": user["user_id"], "shard": user["shard"], "study": study, "study_shard": runs_in}


def _balanced(labels: Sequence[int], shards: Iterable[int]) -> dict[int, int]:
    """A shard for each cohort: the largest cohort first, each to the shard with the fewest users to search for."""
    load, runs_in = dict.fromkeys(sorted(set(shards)), 0), {}
    for label, users in sorted(Counter(labels).items(), key=lambda one: (-one[1], one[0])):
        runs_in[label] = min(load, key=lambda shard: (load[shard], shard))
        load[runs_in[label]] += users
    return runs_in


def members_of(groups: pads.Dataset, shard: str) -> dict[str, list[str]]:
    """The user_ids of each study that the shard of this name runs, by the study, in a table of `study_groups`."""
    import pyarrow.compute as pc

    found: dict[str, list[str]] = {}
    for row in groups.to_table(filter=pc.field("study_shard") == shard_number(shard)).to_pylist():
        found.setdefault(row["study"], []).append(row["user_id"])
    return dict(sorted(found.items()))


def history_vectors(base: BaseModelInUse, users: Iterable[Pilot]) -> np.ndarray:
    """One vector a user, [users, hidden]: the base's last hidden states, averaged over their training rows' tokens."""
    import numpy as np
    import torch

    from imprint.base.trunk import layers_for

    layers = layers_for(base.model)
    vectors = []
    for user in users:
        rows = layers.rows([user.train[-ROWS:]], next(base.model.parameters()).device)
        with torch.no_grad():
            vectors.append(layers.states(rows).float().mean(0).cpu().numpy())
    return np.stack(vectors)


def cohorts(vectors: np.ndarray, count: int, seed: int) -> list[int]:
    """A cluster number for each row of `vectors`, by k-means on unit vectors; at most `count` clusters."""
    import numpy as np
    from sklearn.cluster import KMeans

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    clusters = KMeans(n_clusters=min(count, len(unit)), n_init=10, random_state=seed)
    return [int(label) for label in clusters.fit_predict(unit)]
