"""Find memory configs: for the population on pilot users, and by scope for each cohort or user."""

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
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """The best config for the population and, by scope, for each cohort or user; and every trial of every study."""
    from imprint.base.load import BaseRecord, load_base
    from imprint.search.objective import read_pilots
    from imprint.search.scopes import run_search
    from imprint.search.scoping import groups_of

    model = load_base(BaseRecord(**pooled_model), base)
    index = user_index.to_table().to_pylist()
    pilots = read_pilots(model, user_histories, index, search, "pilot")
    reported = read_pilots(model, user_histories, index, search, "reported") if search.scope != "population" else []
    groups = groups_of(model, reported, search, seed)
    draw = bar("search", "trial")
    result, trials, own = run_search(model, pilots, groups, search, memory, seed, search_workspace, draw)
    lines, own_lines = ([trial.model_dump(mode="json") for trial in some] for some in (trials, own))
    return result.model_dump(mode="json"), lines, own_lines
