"""The methods of a comparison: their shared weights, and each method ready to be fitted and measured.

All but `base` stand on the pooled model, so that what differs between them is how they know their user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imprint.base.histories import users_of
from imprint.base.load import BaseModelInUse, BaseRecord, load_base
from imprint.base.settings import BaseSettings
from imprint.data.shards import ByShard, users_in
from imprint.errors import SettingsError
from imprint.memory.budget import within_budget
from imprint.memory.inject import StoreRecord, read_training, train_memories
from imprint.memory.settings import FleetSettings, MemorySettings
from imprint.personalizers.choosers import Latest, retriever
from imprint.personalizers.methods import opened
from imprint.personalizers.persona_plug import PlugConditioner
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.protocol import Histories, Personalizer
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.settings import CompareSettings
from imprint.personalizers.shared import OnStep, SharedRecord, Teachable, taught, teach, within
from imprint.personalizers.tuned_history import HistoryConditioner
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.personalizers.user_llm import UserLLMConditioner
from imprint.search.chosen import chosen_configs
from imprint.search.own import OwnConfigs
from imprint.search.scopes import SearchResult

if TYPE_CHECKING:
    import pyarrow.dataset as pads

SHARED = ("tuned_history", "persona_plug", "user_llm")
"""Methods with one set of weights for everybody."""
Record = Mapping[str, Any]


def teach_methods(
    base: BaseModelInUse,
    histories: Histories,
    settings: CompareSettings,
    seed: int,
    workspace: Path,
    bar: Callable[[str], OnStep] = lambda title: lambda step, steps: None,
) -> dict[str, SharedRecord]:
    """Train the shared weights of the compared methods within the budget; `bar(title)` draws one's progress."""
    records: dict[str, SharedRecord] = {}
    for name in (name for name in settings.methods if name in SHARED):
        mine: Any = getattr(settings, name)
        conditioner = _conditioner(name, base, settings, seed, workspace)
        training = within(mine.fit, settings.budget_tokens)
        records[name] = teach(conditioner, name, histories, mine, training, seed, workspace, bar(name))
    return records


def train_memory_methods(
    table: pads.Dataset,
    index: pads.Dataset,
    shards: Sequence[str],
    pooled_model: Record,
    found: SearchResult,
    own: ByShard[OwnConfigs],
    base: BaseSettings,
    memory: MemorySettings,
    settings: CompareSettings,
    seed: int,
    workspace: Path,
    bars: Callable[[str, Mapping[str, int]], Mapping[str, OnStep]],
) -> dict[str, dict[str, Any]]:
    """By memory method `{"stores", "tokens", "cut"}`: memories in the configs found, with affordable numbers of epochs.

    `stores` are records by shard, and `own` gives a shard's users with configs of their own. Where the budget binds
    nobody, these are the memories that `inject` made, and nothing is trained again. Pilots have a memory of
    the method `memory` there, but are not compared: `tokens` and the budget are those of reported users, and `cut` is
    how many of them have fewer epochs than their config says. `bars(method, users)` gives a callback for each shard.
    """
    model = load_base(BaseRecord(**pooled_model), base)
    everybody = {name: read_training(model, table, users_in(index, name), memory.early_stopping) for name in shards}
    chosen = {name: chosen_configs(found, own(name)) for name in shards}
    reported = {row["user_id"] for name in shards for row in users_of(users_in(index, name), "reported")}
    wanted = {name.removesuffix("+retrieval") for name in settings.methods}
    made: dict[str, dict[str, Any]] = {}
    made_there: dict[str, list[StoreRecord]] = {name: [] for name in shards}
    # as inject does: `memory` first, and what it has of the same config is the others' too
    order = sorted(chosen_configs(found), key=lambda method: method != "memory")
    for method in (method for method in order if method in wanted):
        histories = {
            name: [one for one in mine if method == "memory" or one.user_id in reported]
            for name, mine in everybody.items()
        }
        users = [one for mine in histories.values() for one in mine]
        configs = {
            one.user_id: chosen[name][method].config_of(one.user_id) for name in shards for one in histories[name]
        }
        kept, tokens = within_budget(users, configs, settings.budget_tokens, reported)
        draw = bars(method, {name: len(mine) for name, mine in histories.items()})
        stores = {}
        for name, mine in histories.items():
            theirs = {one.user_id: kept[one.user_id] for one in mine}
            how = theirs, seed, memory, workspace, chosen[name][method].chosen_by, draw[name]
            record = train_memories(model, mine, *how, made_there[name])
            stores[name] = record.model_dump(mode="json")
            if method == "memory":
                made_there[name] = [record]
        cut = sum(kept[user_id].epochs < configs[user_id].epochs for user_id in reported)
        made[method] = {"stores": stores, "tokens": tokens, "cut": cut}
    return made


def compared_methods(
    base_model: Record,
    pooled_model: Record,
    memories: Mapping[str, Record],
    shared: Mapping[str, Record],
    settings: CompareSettings,
    base: BaseSettings,
    fleet: FleetSettings,
    seed: int,
    workspace: Path,
) -> Iterator[Personalizer]:
    """Every compared method, in the settings' order. `SettingsError` for one whose memories this run lacks."""
    model, slots = load_base(BaseRecord(**pooled_model), base), fleet.scoring_slots
    plain = Unpersonalised("pooled", model, slots)

    def remembered(name: str) -> Remembered:
        if name not in memories:
            raise SettingsError(
                f"compare.methods: {name!r} given, but this search made {sorted(memories)} only. Next: leave it out, "
                "or change search.scope or search.random_trials."
            )
        return Remembered(name, model, opened(memories[name]["stores"].values()), slots)

    for name in settings.methods:
        if name == "base":
            yield Unpersonalised(name, load_base(BaseRecord(**base_model), base), slots)
        elif name == "pooled":
            yield plain
        elif name == "recent_history":
            recent = settings.recent_history
            yield Prompted(name, plain, Latest(), recent.budget_tokens, recent.prompt)
        elif name == "retrieval":
            how = settings.retrieval
            yield Prompted(name, plain, retriever(model, how), how.budget_tokens, how.prompt)
        elif name == "memory+retrieval":
            how = settings.retrieval
            yield Prompted(name, remembered("memory"), retriever(model, how), how.budget_tokens, how.prompt)
        elif name in SHARED:
            yield taught(_conditioner(name, model, settings, seed, workspace), SharedRecord(**shared[name]))
        else:
            yield remembered(name)


def _conditioner(name: str, base: BaseModelInUse, settings: CompareSettings, seed: int, workspace: Path) -> Teachable:
    if name == "persona_plug":
        return PlugConditioner(base, settings.persona_plug, seed, workspace)
    if name == "tuned_history":
        return HistoryConditioner(base, settings.tuned_history, seed)
    return UserLLMConditioner(base, settings.user_llm, seed, workspace)
