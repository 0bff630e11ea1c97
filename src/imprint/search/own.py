"""Configs of users' own: the further studies of one shard, their choices as a table, and who is given which.

A user's choice is found by their study, and by the shard that ran it (`schema.study_groups_schema`): the other shards'
choices are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imprint.base.load import BaseModelInUse
from imprint.data.partition import part_name
from imprint.data.shards import ByShard, shard_number, users_named
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.schema import own_choices_schema
from imprint.search.journal import Trial
from imprint.search.objective import read_pilots
from imprint.search.scopes import OnTrial, SearchResult, search_groups
from imprint.search.scoping import members_of
from imprint.search.selection import Choice
from imprint.search.settings import SearchSettings

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads


class OwnConfigs(NamedTuple):
    """The configs of users who have one of their own, and the searches that found them."""

    configs: Mapping[str, MemoryConfig]
    searches: tuple[str, ...]


NOBODYS = OwnConfigs({}, ())


def search_shard(
    load: Callable[[], BaseModelInUse],
    table: pads.Dataset,
    index: pads.Dataset,
    groups: pads.Dataset,
    shard: str,
    population: SearchResult,
    settings: SearchSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
    memory_workspace: Path,
    on_trial: OnTrial = lambda done, budget, best: None,
) -> tuple[pa.Table, list[Trial]]:
    """Run (or resume) the studies of one shard; their choices (`schema.own_choices_schema`), and every trial.

    The base, which `load` gives, is only needed where the shard has a study. Memories of trials that users may be given
    are kept below `memory_workspace` (`memory.tried`).
    """
    members = members_of(groups, shard)
    if not members:
        return choices_table({}, ""), []
    base = load()
    users = users_named(index, [user_id for mine in members.values() for user_id in mine])
    pilots = {pilot.user_id: pilot for pilot in read_pilots(base, table, users, settings, "reported")}
    studies = {study: [pilots[user_id] for user_id in mine] for study, mine in members.items()}
    found = search_groups(base, studies, population, settings, memory, seed, workspace, memory_workspace, on_trial)
    return choices_table(found.choices, found.fingerprint), found.trials


def choices_table(choices: Mapping[str, Choice], search: str) -> pa.Table:
    """What the further studies of one search chose, a row a study."""
    import pyarrow as pa

    rows = [
        {
            "study": study,
            "tid": choice.tid,
            "objective_value": choice.objective_value,
            "config": choice.config.model_dump_json(),
            "search": search,
        }
        for study, choice in choices.items()
    ]
    return pa.Table.from_pylist(rows, schema=own_choices_schema())


def own_configs(groups: pads.Dataset, choices: ByShard[pads.Dataset], shard: str) -> OwnConfigs:
    """The users of a shard with a config of their own; `choices` are the tables by shard that `search_shard` made."""
    import pyarrow as pa
    import pyarrow.compute as pc

    users = groups.to_table(filter=pc.field("shard") == shard_number(shard)).to_pylist()
    wanted = pc.field("study").isin(pa.array(sorted({user["study"] for user in users}), pa.string()))
    found = {
        row["study"]: row
        for runs_in in sorted({user["study_shard"] for user in users})
        for row in choices(part_name(runs_in)).to_table(filter=wanted).to_pylist()
    }
    configs = {study: MemoryConfig.model_validate_json(row["config"]) for study, row in found.items()}
    return OwnConfigs(
        {user["user_id"]: configs[user["study"]] for user in users if user["study"] in configs},
        tuple(sorted({row["search"] for row in found.values()})),
    )


def count_own(
    groups: pads.Dataset, choices: ByShard[pads.Dataset], shards: Sequence[str], population: MemoryConfig
) -> dict[str, int]:
    """`studies` beyond the population's, `own_users`, whose study chose a config, and `stayed`: it chose that one.

    Of those who stayed, `own_strengths` use their memory at another strength than the population's.
    """
    chosen = [config for name in shards for config in own_configs(groups, choices, name).configs.values()]
    stayed = [config for config in chosen if config.as_trained == population.as_trained]
    return {
        "studies": sum(len(members_of(groups, name)) for name in shards),
        "own_users": len(chosen),
        "stayed": len(stayed),
        "own_strengths": sum(config.strength != population.strength for config in stayed),
    }
