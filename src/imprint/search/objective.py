"""The objective: train a config on pilot users, score it on their validation rows (never on a reported user's).

Its value is the mean over pilots of nats per response token; lower is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imprint.base.examples import Example, fingerprint_of_examples
from imprint.base.histories import IndexRow, read_histories, users_of
from imprint.base.load import BaseModelInUse
from imprint.base.loss import mean_loss, score
from imprint.memory.config import MemoryConfig
from imprint.memory.trainer import train_memory
from imprint.memory.weights import remembering
from imprint.search.settings import SearchSettings

if TYPE_CHECKING:
    import pyarrow.dataset as pads


@dataclass(frozen=True, slots=True)
class Pilot:
    """A user to search on: what a trial trains on, and what it is scored on."""

    user_id: str
    train: Sequence[Example]
    validation: Sequence[Example]

    @property
    def fingerprint(self) -> str:
        """Names the text of all rows, not their ids: an edited row is another pilot."""
        return fingerprint_of_examples((*self.train, *self.validation))


def evaluate_config(
    base: BaseModelInUse, pilots: Sequence[Pilot], config: MemoryConfig, seed: int, batch_rows: int
) -> dict[str, float]:
    """Validation loss of each pilot's memory in this config, by user."""
    losses = {}
    for pilot in pilots:
        trained = train_memory(base, pilot.user_id, pilot.train, config, seed, batch_rows)
        with remembering(base, trained.memory):
            losses[pilot.user_id] = mean_loss(score(base.model, pilot.validation))
    return losses


def read_pilots(
    base: BaseModelInUse, table: pads.Dataset, index: Sequence[IndexRow], settings: SearchSettings
) -> list[Pilot]:
    """The pilots of a user index, each with their latest rows of the train and validation splits."""
    users = users_of(index, "pilot")
    train = read_histories(table, users, "train")
    validation = read_histories(table, users, "validation")
    encode = base.encoder.examples
    return [
        Pilot(
            user_id,
            encode(rows[-(settings.max_train_rows or len(rows)) :]),
            encode(validation[user_id][-(settings.max_validation_rows or 0) :]),
        )
        for user_id, rows in train.items()
    ]
