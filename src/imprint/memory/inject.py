"""Train the memories of many users into one store; a killed run goes on where it was.

Users are trained crew by crew. A finished crew is on disk at once, a part a user, under a name that says what made it
(base, configs, rows, seed). A run that starts again finds those parts and trains the other crews, each with the same
members as before, so that it ends with the same bytes; a kill loses the crew in flight and nobody else. When all parts
are there, they are packed into the store and removed. A store is kept under the same kind of name, so an unchanged
population is never trained twice. Nor need a user be to whom two methods give the same config: what was taken from
another store is part of the name, because in other company a user's weights differ in their last bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from imprint.base.examples import Example, fingerprint_of_examples
from imprint.base.fit import TRAINING_VERSION
from imprint.base.histories import IndexRow, read_histories, users_of
from imprint.base.load import BaseModelInUse
from imprint.data.atomic import read_manifest, write_bytes
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import EarlyStopping, MemorySettings
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainee import Job
from imprint.memory.training import Training
from imprint.memory.weights import Episode, Factors, Memory
from imprint.provenance import code_version, fingerprint
from imprint.storage import address, at, fetch, remove

if TYPE_CHECKING:
    import pyarrow.dataset as pads
    from torch import Tensor


class StoreRecord(BaseModel):
    """Which memories a run made; what crosses between stages instead of the weights.

    `trained_by` is the fingerprint of all that a memory depends on but its rows and its config; empty where training
    may stop early, and in stores from before it was kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    fingerprint: str
    base_fingerprint: str
    base_dtype: str = "float32"
    trained_by: str = ""
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


def read_training(
    base: BaseModelInUse, table: pads.Dataset, index: Sequence[IndexRow], early_stopping: EarlyStopping | None = None
) -> list[History]:
    """The training split of every user who gets a memory (pilots and reported users), in the index's order.

    The validation split is read only where training may stop by it.
    """
    users = users_of(index, "pilot", "reported")
    train, encode = read_histories(table, users, "train"), base.encoder.examples
    validation = {} if early_stopping is None else read_histories(table, users, "validation")
    return [
        History(
            user["user_id"],
            user["shard"],
            user["fingerprint"],
            encode(train[user["user_id"]]),
            encode(validation.get(user["user_id"], [])),
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
    A memory that one of the `others` has, of the same rows in the same config, is taken from there with its seconds,
    and the store says so; never where training may stop early.
    """
    # where training stops early a memory depends on validation rows too, and is nobody else's
    trained_by = "" if memory.early_stopping else fingerprint(_conditions(base, seed, memory))
    taken = _elsewhere(others, trained_by, histories, configs)
    name = _name(base, histories, configs, seed, memory, chosen_by, taken)
    directory = workspace / f"memories-{name}"
    manifest = read_manifest(directory)
    if manifest is None:
        parts = fetch(workspace / f"memories-{name}.parts")
        _take(taken, parts)
        rest = [history for history in histories if history.user_id not in taken]
        _train_crews(base, rest, configs, seed, memory, parts, lambda done: on_user(len(taken) + done, len(histories)))
        shards = {history.shard for history in histories}
        packs = {shard: _parts_of(parts, [one for one in histories if one.shard == shard]) for shard in sorted(shards)}
        facts = {
            "base_fingerprint": base.record.fingerprint,
            "base_dtype": base.dtype,
            "trained_by": trained_by,
            "configs": len({config.model_dump_json() for config in configs.values()}),
            "chosen_by": dict(chosen_by),
            "taken": {user_id: record.fingerprint for user_id, record in taken.items()},
            "histories": {history.user_id: history.row_fingerprint for history in histories},
            "code": code_version(),
            "seconds": {one.user_id: _about(_part(parts, one.user_id))["seconds"] for one in histories},
        }
        manifest = write_store(directory, packs, facts)
        remove(parts)
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
    taken: Mapping[str, StoreRecord],
) -> str:
    made_of = [dict(chosen_by), *_conditions(base, seed, memory)]
    if taken:
        made_of.append({user_id: record.fingerprint for user_id, record in sorted(taken.items())})
    rows = [
        [history.user_id, history.shard, history.row_fingerprint, configs[history.user_id].model_dump(mode="json")]
        for history in histories
    ]
    if memory.early_stopping is None:
        return fingerprint(made_of, rows)
    judged_on = [fingerprint_of_examples(history.validation) for history in histories]
    return fingerprint(made_of, rows, memory.early_stopping, judged_on)


def _conditions(base: BaseModelInUse, seed: int, memory: MemorySettings) -> list[Any]:
    """What a memory depends on beside its user's rows and its config, where nothing stops its training early."""
    return [base.reading, seed, memory.batch_rows, memory.trainer, TRAINING_VERSION]


def _elsewhere(
    others: Sequence[StoreRecord],
    trained_by: str,
    histories: Sequence[History],
    configs: Mapping[str, MemoryConfig],
) -> dict[str, StoreRecord]:
    """By user, the store that has their memory of these rows in this config."""
    found: dict[str, StoreRecord] = {}
    for record in (record for record in others if trained_by and record.trained_by == trained_by):
        store = MemoryStore(at(record.path))
        for history in (one for one in histories if one.user_id not in found and one.user_id in store):
            same = store.config_of(history.user_id) == configs[history.user_id]
            if same and store.row_fingerprint_of(history.user_id) == history.row_fingerprint:
                found[history.user_id] = record
    return found


def _take(taken: Mapping[str, StoreRecord], parts: Path) -> None:
    """Make parts of memories in other stores, but of those that are parts already."""
    stores: dict[str, MemoryStore] = {}
    for user_id, record in taken.items():
        part = _part(parts, user_id)
        if not part.is_file():
            if record.path not in stores:
                stores[record.path] = MemoryStore(at(record.path))
            _write_part(part, stores[record.path].load(user_id), record.seconds[user_id])


def _train_crews(
    base: BaseModelInUse,
    histories: Sequence[History],
    configs: Mapping[str, MemoryConfig],
    seed: int,
    memory: MemorySettings,
    parts: Path,
    on_user: Callable[[int], None],
) -> None:
    training = Training(base, memory, seed)
    for start in range(0, len(histories), memory.fleet.crew):
        crew = histories[start : start + memory.fleet.crew]
        if all(_part(parts, history.user_id).is_file() for history in crew):
            continue
        count = partial(_count, on_user, start)
        jobs = [Job(one.user_id, one.examples, configs[one.user_id], one.validation) for one in crew]
        for trained in training.train(jobs, count):
            _write_part(_part(parts, trained.memory.user_id), trained.memory, trained.seconds)
        training.forget_rows()  # else the first crews fill the room that later ones need


def _count(on_user: Callable[[int], None], before: int, done: int, _: int) -> None:
    on_user(before + done)


def _part(parts: Path, user_id: str) -> Path:
    return parts / f"{user_id}.safetensors"


def _parts_of(parts: Path, histories: Sequence[History]) -> Iterator[Memory]:
    for history in histories:
        yield _read_part(_part(parts, history.user_id))


def _write_part(path: Path, memory: Memory, seconds: float) -> None:
    from safetensors.torch import save

    tensors = {
        f"{number}/{site}/{letter}": factor.contiguous()
        for number, episode in enumerate(memory.episodes)
        for site, factors in episode.factors.items()
        for letter, factor in zip("ab", factors, strict=True)
    }
    about = {
        "user_id": memory.user_id,
        "base_fingerprint": memory.base_fingerprint,
        "config": memory.config.model_dump(mode="json"),
        "episodes": [[episode.rows, episode.row_fingerprint] for episode in memory.episodes],
        "epochs": [episode.epochs for episode in memory.episodes],
        "seconds": round(seconds, 4),
    }
    write_bytes(path, save(tensors, metadata={"memory": json.dumps(about)}))


def _about(path: Path) -> dict[str, Any]:
    """What is written beside a part's tensors; none of these are read."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as part:
        about: dict[str, Any] = json.loads(part.metadata()["memory"])
    return about


def _read_part(path: Path) -> Memory:
    from safetensors.torch import load_file

    about, tensors = _about(path), load_file(path)
    config = MemoryConfig(**about["config"])
    epochs = about.get("epochs", [config.epochs] * config.n_memories)  # absent before training could stop early
    episodes = [
        Episode(rows, row_fingerprint, done, _factors(tensors, f"{number}/"))
        for number, ((rows, row_fingerprint), done) in enumerate(zip(about["episodes"], epochs, strict=True))
    ]
    return Memory(about["user_id"], about["base_fingerprint"], config, tuple(episodes))


def _factors(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Factors]:
    sites = sorted({name[len(prefix) : -len("/a")] for name in tensors if name.startswith(prefix)})
    return {site: Factors(tensors[f"{prefix}{site}/a"], tensors[f"{prefix}{site}/b"]) for site in sites}
