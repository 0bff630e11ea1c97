"""The table of contents: every pipeline by name, and what `kedro run` runs."""

from kedro.pipeline import Pipeline

from pipelines import base, compare, evaluate, ingest, inject, partition, report, respond, search, trial, validate


def register_pipelines() -> dict[str, Pipeline]:
    """All pipelines; `__default__` is the spine from a corpus to a report, `compare` has more methods."""
    stages = {
        "ingest": ingest.create_pipeline(),
        "validate": validate.create_pipeline(),
        "partition": partition.create_pipeline(),
        "base": base.create_pipeline(),
        "search": search.create_pipeline(),
        "inject": inject.create_pipeline(),
        "evaluate": evaluate.create_pipeline(),
        "report": report.create_pipeline(),
    }
    searched = [stage for name, stage in stages.items() if name not in ("inject", "evaluate", "report")]
    return {
        **stages,
        "respond": respond.create_pipeline(),
        "trial": trial.create_pipeline(),
        "compare": Pipeline([*searched, compare.create_pipeline()]),
        "__default__": Pipeline(list(stages.values())),
    }
