"""Train the memories of many users into one store; a killed run goes on where it was.

Users are trained crew by crew. A finished crew is on disk at once, a part a user, under a name that says what made it
(base, configs, rows, seed). A run that starts again finds those parts and trains the other crews, each with the same
members as before, so that it ends with the same bytes; a kill loses the crew in flight and nobody else. When all parts
are there, they are packed into the store and removed. A store is kept under the same kind of name, so an unchanged
population is never trained twice. Nor is a user whom a trial of their own study or another method has trained on the
same rows in the same config, whatever its strength: where memories may be taken from is part of the name, because in
other company a user's weights differ in their last bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from imprint.base.examples import Example, Interaction, KeptExamples, fingerprint_of_examples
from imprint.base.histories import IndexRow, read_histories, users_of
from imprint.base.load import BaseModelInUse
from imprint.data.atomic import read_manifest
from imprint.errors import TrainingDivergedError
from imprint.memory.config import MemoryConfig
from imprint.memory.parts import about_part, read_part, write_part
from imprint.memory.settings import EarlyStopping, MemorySettings
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainee import Job
from imprint.memory.training import Training, conditions_of, format_of, trained_by
from imprint.memory.tried import TriedMemories
from imprint.memory.weights import Memory
from imprint.provenance import code_version, fingerprint
from imprint.storage import address, at, fetch, remove

if TYPE_CHECKING:
    import pyarrow.dataset as pads


class StoreRecord(BaseModel):
    """Which memories a run made; what crosses between stages instead of the weights.

    `trained_by` is the fingerprint of all that a memory depends on but its rows and its config; empty where training
    may stop early, and in stores from before it was kept. `taken` has by user the search or store that a memory was
    taken from, for those that were not trained for this store.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    fingerprint: str
    base_fingerprint: str
    base_dtype: str = "float32"
    trained_by: str = ""
    taken: dict[str, str] = {}
    users: int
    bytes: int
    configs: int
    chosen_by: dict[str, Any]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class History:
    """One user's training examples, and the shard their memory goes to; their validation examples where asked for."""

    user_id: str
    shard: int
    row_fingerprint: str
    examples: Sequence[Example]
    validation: Sequence[Example] = ()


class _Made(NamedTuple):
    """A memory that need not be trained: which store or search it is from, and what its training took there."""

    source: str
    load: Callable[[], Memory]
    seconds: float


def read_training(
    base: BaseModelInUse,
    table: pads.Dataset,
    index: Sequence[IndexRow],
    early_stopping: EarlyStopping | None = None,
    roles: Sequence[str] = ("pilot", "reported"),
) -> list[History]:
    """The training split of every user who gets a memory, or of those in `roles`, in the index's order.

    The validation split is read only where training may stop by it.
    """
    users = users_of(index, *roles)
    train = read_histories(table, users, "train")
    validation = {} if early_stopping is None else read_histories(table, users, "validation")

    def kept(user_id: str, rows: Sequence[Interaction]) -> KeptExamples:
        return KeptExamples(user_id, map(base.encoder.example, rows))

    return [
        History(
            user["user_id"],
            user["shard"],
            user["fingerprint"],
            kept(user["user_id"], train.pop(user["user_id"])),
            kept(user["user_id"], validation.get(user["user_id"], [])),
        )
        for user in users
    ]


def train_memories(
    base: BaseModelInUse,
    histories: Sequence[History],
    configs: Mapping[str, MemoryConfig],
    seed: int,
    memory: MemorySettings,
    workspace: Path,
    chosen_by: Mapping[str, Any],
    on_user: Callable[[int, int], None] = lambda done, users: None,
    others: Sequence[StoreRecord] = (),
) -> StoreRecord:
    """One memory a history, in the config that `configs` has for its user, in a store under `workspace`.

    `on_user(done, users)` is called after each. `chosen_by` says where the configs came from (search and trial) and is
    kept with the store, as are the fingerprints of the users' rows: a memory can be followed back to what made it.
    A memory that one of the `others` has, or that a trial of users' own searches made (`own_searches` in `chosen_by`,
    of this store or the others), of the same rows in the same config but for its strength, is taken from there with its
    seconds, and the store says so; never where training may stop early.
    """
    made_by = trained_by(base, memory, seed)
    origins = [chosen_by, *(record.chosen_by for record in others)]
    searches = dict.fromkeys(search for origin in origins for search in origin.get("own_searches", ()))
    sources = [*searches, *(record.fingerprint for record in others)] if made_by else []
    name = _name(base, histories, configs, seed, memory, chosen_by, sources)
    directory = workspace / f"memories-{name}"
    manifest, parts = read_manifest(directory), workspace / f"memories-{name}.parts"
    if manifest is None:
        parts = fetch(parts)
        tried = [TriedMemories(workspace, search) for search in searches]
        taken = _elsewhere(tried, others, made_by, histories, configs)
        for user_id, made in taken.items():
            if not _part(parts, user_id).is_file():
                write_part(_part(parts, user_id), made.load(), made.seconds)
        rest = [history for history in histories if history.user_id not in taken]
        _train_crews(base, rest, configs, seed, memory, parts, lambda done: on_user(len(taken) + done, len(histories)))
        manifest = read_manifest(directory)  # an agreeing run may have finished the store, and removed the parts
    if manifest is None:
        shards = {history.shard for history in histories}
        packs = {shard: _parts_of(parts, [one for one in histories if one.shard == shard]) for shard in sorted(shards)}
        facts = {
            "base_fingerprint": base.record.fingerprint,
            "base_dtype": format_of(base, memory),
            "trained_by": made_by,
            "configs": len({config.model_dump_json() for config in configs.values()}),
            "chosen_by": dict(chosen_by),
            "searches": list(searches),
            "taken": {user_id: made.source for user_id, made in taken.items()},
            "histories": {history.user_id: history.row_fingerprint for history in histories},
            "code": code_version(),
            "seconds": {one.user_id: about_part(_part(parts, one.user_id))["seconds"] for one in histories},
        }
        manifest = write_store(directory, packs, facts)
    remove(parts)  # also what a run left that was killed while it removed them
    on_user(len(histories), len(histories))
    kept = {key: manifest[key] for key in StoreRecord.model_fields if key in manifest}
    return StoreRecord(path=address(directory), fingerprint=name, **kept)


def _name(
    base: BaseModelInUse,
    histories: Sequence[History],
    configs: Mapping[str, MemoryConfig],
    seed: int,
    memory: MemorySettings,
    chosen_by: Mapping[str, Any],
    sources: Sequence[str],
) -> str:
    made_of = [dict(chosen_by), *conditions_of(base, memory, seed), *([sources] if sources else [])]
    rows = [
        [history.user_id, history.shard, history.row_fingerprint, configs[history.user_id].model_dump(mode="json")]
        for history in histories
    ]
    if memory.early_stopping is None:
        return fingerprint(made_of, rows)
    judged_on = [fingerprint_of_examples(history.validation) for history in histories]
    return fingerprint(made_of, rows, memory.early_stopping, judged_on)


def _elsewhere(
    tried: Sequence[TriedMemories],
    others: Sequence[StoreRecord],
    made_by: str,
    histories: Sequence[History],
    configs: Mapping[str, MemoryConfig],
) -> dict[str, _Made]:
    """By user, their memory of these rows in this config, where a search or one of the other stores has it."""
    found: dict[str, _Made] = {}
    for search in tried if made_by else ():
        for one in (one for one in histories if one.user_id not in found):
            trial = search.find(one.user_id, configs[one.user_id], one.row_fingerprint, made_by)
            if trial:
                found[one.user_id] = _Made(search.search, trial.load, trial.seconds)
    for record in (record for record in others if made_by and record.trained_by == made_by):
        store = MemoryStore(at(record.path))
        for one in (one for one in histories if one.user_id not in found and one.user_id in store):
            config = configs[one.user_id]
            same = store.config_of(one.user_id).as_trained == config.as_trained
            if same and store.row_fingerprint_of(one.user_id) == one.row_fingerprint:
                load = partial(_at_strength, store, one.user_id, config.strength)
                found[one.user_id] = _Made(record.fingerprint, load, record.seconds[one.user_id])
    return found


def _at_strength(store: MemoryStore, user_id: str, strength: float) -> Memory:
    return store.load(user_id).at_strength(strength)


def _train_crews(
    base: BaseModelInUse,
    histories: Sequence[History],
    configs: Mapping[str, MemoryConfig],
    seed: int,
    memory: MemorySettings,
    parts: Path,
    on_user: Callable[[int], None],
) -> None:
    training, diverged = Training(base, memory, seed), []
    for start in range(0, len(histories), memory.fleet.crew):
        crew = histories[start : start + memory.fleet.crew]
        if all(_part(parts, history.user_id).is_file() for history in crew):
            continue
        count = partial(_count, on_user, start)
        # nothing here holds the jobs or the memories: the next crew's are made when these are gone
        for trained in training.train([_job(one, configs[one.user_id]) for one in crew], count):
            if trained.memory.finite:
                write_part(_part(parts, trained.memory.user_id), trained.memory, trained.seconds)
            else:  # a store of it would be found finished by every later run
                diverged.append(trained.memory.user_id)
        training.forget_rows()  # else the first crews fill the room that later ones need
    if diverged:
        raise TrainingDivergedError(
            f"training diverged, its weights are no numbers, for {len(diverged)} of {len(histories)} users, the first "
            f"of them {diverged[0]} in the config {configs[diverged[0]].model_dump_json()}. Next: lower learning_rate, "
            "in memory.fixed_config or the upper bound in search.space, and run again."
        )


def _job(one: History, config: MemoryConfig) -> Job:
    return Job(one.user_id, list(one.examples), config, list(one.validation))


def _count(on_user: Callable[[int], None], before: int, done: int, _: int) -> None:
    on_user(before + done)


def _part(parts: Path, user_id: str) -> Path:
    return parts / f"{user_id}.safetensors"


def _parts_of(parts: Path, histories: Sequence[History]) -> Iterator[Memory]:
    for history in histories:
        yield read_part(_part(parts, history.user_id))
