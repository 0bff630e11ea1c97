"""Try one memory config on the pilot users."""

from typing import Any

from imprint.base.settings import BaseSettings
from imprint.memory.settings import MemorySettings
from imprint.search.settings import SearchSettings, TrialSettings


def try_memory_config(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    search: SearchSettings,
    memory: MemorySettings,
    trial: TrialSettings,
    seed: int,
) -> dict[str, Any]:
    """The config, at the best strength, and what it is worth by the objective of the population's search."""
    from imprint.base.load import BaseRecord, load_base
    from imprint.data.shards import users_with
    from imprint.search.objective import read_pilots, try_config

    model = load_base(BaseRecord(**pooled_model), base)
    pilots = read_pilots(model, user_histories, users_with(user_index, "pilot"), search, "pilot")
    config = trial.config(layers=1 + max(site.layer for site in model.sites))
    found = try_config(model, pilots, config, memory, seed, search.space.strengths)
    return {"config": {**config.model_dump(mode="json"), "strength": found.pop("strength")}, **found}
