"""The methods of a comparison: their shared weights, and each method ready to be fitted and measured.

All but `base` stand on the pooled model, so that what differs between them is how they know their user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imprint.base.histories import IndexRow
from imprint.base.load import BaseModelInUse, BaseRecord, load_base
from imprint.base.settings import BaseSettings, FitSettings
from imprint.errors import SettingsError
from imprint.memory.budget import within_budget
from imprint.memory.inject import StoreRecord, read_training, train_memories
from imprint.memory.settings import FleetSettings, MemorySettings
from imprint.memory.store import MemoryStore
from imprint.personalizers.choosers import Latest, retriever
from imprint.personalizers.persona_plug import PlugConditioner
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.protocol import Histories, Personalizer
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.settings import CompareSettings
from imprint.personalizers.shared import OnStep, SharedRecord, Teachable, taught, teach
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.personalizers.user_llm import UserLLMConditioner
from imprint.search.chosen import chosen_configs
from imprint.search.scopes import SearchResult
from imprint.storage import at

if TYPE_CHECKING:
    import pyarrow.dataset as pads

SHARED = ("persona_plug", "user_llm")
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
        training = limited(mine.fit, settings.budget_tokens)
        records[name] = teach(conditioner, name, histories, mine, training, seed, workspace, bar(name))
    return records


def train_memory_methods(
    table: pads.Dataset,
    index: Sequence[IndexRow],
    pooled_model: Record,
    found: SearchResult,
    base: BaseSettings,
    memory: MemorySettings,
    settings: CompareSettings,
    seed: int,
    workspace: Path,
    bar: Callable[[str], OnStep] = lambda title: lambda done, users: None,
) -> dict[str, dict[str, Any]]:
    """By memory method `{"store", "tokens"}`: memories in the configs found, with no more epochs than affordable.

    Where the budget binds nobody, these are the memories that `inject` made, and nothing is trained again.
    """
    model = load_base(BaseRecord(**pooled_model), base)
    histories = read_training(model, table, index, memory.early_stopping)
    wanted = {name.removesuffix("+retrieval") for name in settings.methods}
    made = {}
    for name, chosen in chosen_configs(found).items():
        if name in wanted:
            configs = {one.user_id: chosen.config_of(one.user_id) for one in histories}
            kept, tokens = within_budget(histories, configs, settings.budget_tokens)
            store = train_memories(model, histories, kept, seed, memory, workspace, chosen.chosen_by, bar(name))
            made[name] = {"store": store.model_dump(mode="json"), "tokens": tokens}
    return made


def limited(training: FitSettings, budget: int) -> FitSettings:
    """The same training, ended after `budget` tokens at the latest."""
    return training.model_copy(update={"max_tokens": min(budget, training.max_tokens or budget)})


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
        return Remembered(name, model, MemoryStore(at(StoreRecord(**memories[name]["store"]).path)), slots)

    for name in settings.methods:
        if name == "base":
            yield Unpersonalised(name, load_base(BaseRecord(**base_model), base), slots)
        elif name == "pooled":
            yield plain
        elif name == "recent_history":
            yield Prompted(name, plain, Latest(), settings.recent_history.budget_tokens)
        elif name == "retrieval":
            yield Prompted(name, plain, retriever(model, settings.retrieval), settings.retrieval.budget_tokens)
        elif name == "memory+retrieval":
            chooser = retriever(model, settings.retrieval)
            yield Prompted(name, remembered("memory"), chooser, settings.retrieval.budget_tokens)
        elif name in SHARED:
            yield taught(_conditioner(name, model, settings, seed, workspace), SharedRecord(**shared[name]))
        else:
            yield remembered(name)


def _conditioner(name: str, base: BaseModelInUse, settings: CompareSettings, seed: int, workspace: Path) -> Teachable:
    if name == "persona_plug":
        return PlugConditioner(base, settings.persona_plug, seed, workspace)
    return UserLLMConditioner(base, settings.user_llm, seed, workspace)
