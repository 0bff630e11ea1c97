"""Wiring: histories and the pooled model to the configs that the search's scope asks for, and every trial."""

from kedro.pipeline import Node, Pipeline

from pipelines.search.nodes import group_users, search_own_configs, search_population

_MODEL = ["pooled_model", "params:base", "params:search"]
_HOW = ["params:memory", "params:seed", "search_workspace"]


def create_pipeline() -> Pipeline:
    """The population's studies on pilots; who shares a further study; then those studies, shard by shard.

    The further ones begin at the population's surest points.
    """
    return Pipeline(
        [
            Node(
                search_population,
                ["user_histories", "user_index", *_MODEL, *_HOW],
                ["search_result", "trials"],
                name="search_population",
                tags=["group.search", "res.train"],
            ),
            Node(
                group_users,
                ["user_histories", "user_index", *_MODEL, "params:seed"],
                "study_groups",
                name="group_users",
                tags=["group.search", "res.train"],
            ),
            Node(
                search_own_configs,
                [
                    "user_histories",
                    "user_index",
                    "study_groups",
                    "pooled_model",
                    "search_result",
                    "params:base",
                    "params:search",
                    *_HOW,
                    "memory_workspace",
                    "shard_names",
                    "params:shard",
                ],
                ["own_choices", "own_trials"],
                name="search_own_configs",
                tags=["group.search_own", "res.train", "fanout.shard_names"],
            ),
        ]
    )
