"""Which users share a study: each alone, or clusters by what the base model makes of their history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imprint.base.load import BaseModelInUse
from imprint.search.objective import Pilot
from imprint.search.settings import SearchSettings

if TYPE_CHECKING:
    import numpy as np

ROWS = 64
"""Training rows of a user that their place among the others is taken from: their latest."""


def groups_of(
    base: BaseModelInUse, users: Sequence[Pilot], settings: SearchSettings, seed: int
) -> dict[str, list[Pilot]]:
    """The users of each further study by its name, in the settings' scope; none in scope `population`."""
    if settings.scope == "user":
        return {f"user/{user.user_id}": [user] for user in users}
    if settings.scope == "cohort" and users:
        labels = cohorts(history_vectors(base, users), settings.cohorts, seed)
        found: dict[str, list[Pilot]] = {}
        for user, label in zip(users, labels, strict=True):
            found.setdefault(f"cohort/{label}", []).append(user)
        return dict(sorted(found.items()))
    return {}


def history_vectors(base: BaseModelInUse, users: Sequence[Pilot]) -> np.ndarray:
    """One vector a user, [users, hidden]: the base's last hidden states, averaged over their training rows' tokens."""
    import numpy as np
    import torch

    from imprint.base.packing import pack
    from imprint.base.trunk import Trunk

    trunk = Trunk(base.model)
    vectors = []
    for user in users:
        rows = pack([user.train[-ROWS:]], next(base.model.parameters()).device)
        with torch.no_grad():
            vectors.append(trunk.hidden(rows).float().mean(0).cpu().numpy())
    return np.stack(vectors)


def cohorts(vectors: np.ndarray, count: int, seed: int) -> list[int]:
    """A cluster number for each row of `vectors`, by k-means on unit vectors; at most `count` clusters."""
    import numpy as np
    from sklearn.cluster import KMeans

    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    clusters = KMeans(n_clusters=min(count, len(unit)), n_init=10, random_state=seed)
    return [int(label) for label in clusters.fit_predict(unit)]
