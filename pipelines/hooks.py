"""What a run leaves behind about itself: a record at its start and its end, and the table on the terminal."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl

log = logging.getLogger(__name__)

PLACES = {"data_root", "run_id"}
"""Parameters that the catalog reads, and no node."""


class RunHooks:
    """Writes `data/08_reporting/runs/<run_id>.json` and, after an evaluation, prints the method table."""

    def __init__(self) -> None:
        """A run's record grows between its start and its end."""
        self._record: dict[str, Any] = {}
        self._file: Path | None = None
        self._began = 0.0
        self._catalog: Any = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Refuse a parameter that nothing reads: Kedro checks what is inside a block, and lets unknown blocks be."""
        from kedro.framework.project import pipelines

        from imprint.errors import SettingsError

        read = {name for pipeline in pipelines.values() for name in pipeline.inputs() if name.startswith("params:")}
        known = {name.removeprefix("params:").partition(".")[0] for name in read} | PLACES
        if unknown := sorted(set(context.params) - known):
            raise SettingsError(
                f"parameter {unknown[0]}: there is none of this name; allowed are {', '.join(sorted(known))}. "
                "Next: correct it in conf/ or --params."
            )

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Write the record as `running`: a run that was killed is one whose record still says so."""
        from imprint.base.allocator import settle_allocator
        from imprint.data.atomic import write_json
        from imprint.provenance import code_version, device, fingerprint, versions

        settle_allocator()  # here, because it holds for threads that start later
        parameters = {name: catalog.load(name) for name in sorted(pipeline.inputs()) if name.startswith("param")}
        self._began, self._catalog = time.monotonic(), catalog
        self._record = {
            "run_id": run_params["run_id"],
            "pipelines": run_params.get("pipeline_names"),
            "env": run_params.get("env"),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "outcome": "running",
            "parameters_fingerprint": fingerprint(json.loads(json.dumps(parameters, default=_plain))),
            "runtime_params": run_params.get("runtime_params"),
            "seed": catalog.load("params:seed"),
            "shard": catalog.load("params:shard"),
            "data": {},  # the fingerprint of every table, as this run last read or wrote it; by shard where it has some
            "code": code_version(),
            "versions": versions(),
            "device": device(),
        }
        reporting = Path(catalog.load("run_records"))
        # tasks of one cluster's run may begin in the same millisecond, which is all that tells run ids apart
        task = f"-{self._record['shard']}" if self._record["shard"] else ""
        self._file = reporting / f"{str(run_params['run_id']).replace(':', '-')}{task}.json"
        write_json(self._file, self._record)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str) -> None:
        """Note which data the run has read."""
        self._note_data(dataset_name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Note which data the run has written."""
        self._note_data(dataset_name)

    def _note_data(self, name: str) -> None:
        """At once: the record of a run that is killed says on which data it was."""
        from imprint.data.atomic import write_json
        from pipelines.datasets import Table
        from pipelines.sharded import Sharded

        table, data = self._catalog.get(name), self._record["data"]
        if self._file is None or not isinstance(table, Table | Sharded):
            return
        if isinstance(table, Table):
            data[name] = table.fingerprint()
        elif found := table.fingerprint():
            data[name] = {**data.get(name, {}), **found}
        write_json(self._file, self._record)

    @hook_impl
    def after_pipeline_run(self, pipeline: Any, catalog: Any) -> None:
        """Close the record, and print the table where this run made one."""
        for name in sorted(pipeline.inputs()):
            self._note_data(name)  # which shards of a dataset were read is known only now
        self._close("completed")
        if "metrics" in pipeline.all_outputs():
            from rich.console import Console

            from imprint.report.tables import terminal_tables

            Console().print(*terminal_tables(catalog.load("metrics")), sep="\n")
        for page in sorted({"report", "comparison"} & pipeline.all_outputs()):
            log.info("The %s: %s", page, catalog.get(page).address)

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Close the record with the error's name and message."""
        from imprint.errors import ImprintError

        # our messages name fields and counts; other libraries' may quote people's words
        message = str(error) if isinstance(error, ImprintError) else "see the log of the run"
        self._close("failed", error=f"{type(error).__name__}: {message}")

    def _close(self, outcome: str, **more: Any) -> None:
        from imprint.data.atomic import write_json
        from imprint.provenance import peak_memory_mib

        took = {"seconds": round(time.monotonic() - self._began, 1), "peak_memory_mib": round(peak_memory_mib())}
        self._record |= {"outcome": outcome, **took, **more}
        if self._file is not None:
            write_json(self._file, self._record)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else str(value)
