"""Find the memory config on pilot users."""

from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.memory.settings import MemorySettings
from imprint.search.settings import SearchSettings
from pipelines.progress import bar


def search_memory_config(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    search: SearchSettings,
    memory: MemorySettings,
    seed: int,
    search_workspace: Path,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The best config for the population, and every trial of the three studies."""
    from imprint.base.load import BaseRecord, load_base
    from imprint.search.objective import read_pilots
    from imprint.search.population import search_population

    model = load_base(BaseRecord(**pooled_model), base)
    pilots = read_pilots(model, user_histories, user_index.to_table().to_pylist(), search)
    draw = bar("search", "trial")
    result, trials = search_population(model, pilots, search, memory, seed, search_workspace, draw)
    return result.model_dump(mode="json"), [trial.model_dump(mode="json") for trial in trials]
