"""Validation: every row is let through or quarantined with the name of each check it failed; none is dropped.

The checks are a Great Expectations suite kept as reviewed JSON in `conf`. Three rules keep it honest. A suite is tried
on one fabricated row before any data is read, so that a suite that cannot work is refused as a setting and never
blamed on the data. An exception inside an expectation is an error, not a failed row. Offending values stay where they
are: results hold counts and positions, never people's words (the quarantine table holds the rows, the page a few).

Great Expectations has no Arrow engine, so batches pass through pandas, grouped to some thousands of rows because a
call costs half a second whatever its size. A time is shown to the suite as seconds since 1970 (UTC), and the
suite parameter `now` is the moment the validation began.
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from imprint.data.suite import FABRICATED, check_names, checked_configs
from imprint.data.tables import joined_batches, new_table, require_rows
from imprint.errors import QuarantineLimitError, SettingsError
from imprint.provenance import fingerprint
from imprint.schema import ingested_schema, interactions_schema, quarantine_schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

GROUP_ROWS = 50_000
GROUP_BYTES = 64 * 2**20


class ValidateSettings(BaseModel):
    """What validation checks, and how much refusal it bears."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_quarantined_share: float = Field(
        0.2, ge=0, le=1, description="Share of quarantined rows past which the run stops."
    )
    min_rows_to_stop: int = Field(
        100, ge=1, description="Rows below which only a wholly quarantined input stops the run."
    )


class _Checks:
    """A suite in one Great Expectations context: from a batch to the checks that each row fails, and the counts."""

    def __init__(self, suite: Mapping[str, Any]) -> None:
        import pyarrow as pa

        self.now = time.time()
        self.configs = checked_configs(suite)
        self.columns = sorted({config["kwargs"]["column"] for config in self.configs})
        self.names = check_names(self.configs)
        self.checked: Counter[int] = Counter()
        self.failed: Counter[int] = Counter()
        self._suite, self._definition = _great_expectations(suite["name"], self.configs)
        self._run(pa.RecordBatch.from_pylist([FABRICATED], schema=ingested_schema()), quote=True)
        self.checked.clear()
        self.failed.clear()

    def failures(self, batch: pa.RecordBatch) -> dict[int, list[str]]:
        """`{row of the batch: names of the checks it fails}`, rows ascending, and the counts go up."""
        return self._run(batch, quote=False)

    def _run(self, batch: pa.RecordBatch, quote: bool) -> dict[int, list[str]]:
        answer = self._definition.get_batch({"dataframe": _frame(batch, self.columns)}).validate(
            self._suite,
            result_format={"result_format": "COMPLETE", "include_unexpected_rows": False},
            expectation_parameters={"now": self.now},
        )
        found: dict[int, list[str]] = defaultdict(list)
        for result in sorted(answer.results, key=lambda one: one.expectation_config.meta["check"]):
            number = result.expectation_config.meta["check"]
            _refuse_exception(self.names[number], result.exception_info, quote)
            rows = result.result["unexpected_index_list"]
            for row in rows:
                found[int(row)].append(self.names[number])
            self.checked[number] += result.result["element_count"] - (result.result.get("missing_count") or 0)
            self.failed[number] += len(rows)
        return dict(sorted(found.items()))

    def report(self) -> list[dict[str, Any]]:
        """A record a check, in the suite's order. `checked` counts the rows with a value to look at."""
        return [
            {
                "check": name,
                "column": config["kwargs"]["column"],
                "description": config["notes"],
                "checked": self.checked[number],
                "failed": self.failed[number],
                "share": self.failed[number] / self.checked[number] if self.checked[number] else 0.0,
            }
            for number, (name, config) in enumerate(zip(self.names, self.configs, strict=True))
        ]


def _great_expectations(name: str, configs: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """The suite and the batch definition of a context that writes nothing, prints nothing and calls nobody."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it imports sre_constants
        import great_expectations as gx
        from great_expectations.exceptions import GreatExpectationsError
        from great_expectations.expectations.expectation import ColumnMapExpectation
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    log = logging.getLogger("great_expectations")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    try:
        # One by one, because a suite given an unknown expectation logs it and goes on without it.
        expectations = [ExpectationConfiguration(**config).to_domain_obj() for config in configs]
        suite = gx.ExpectationSuite(name=name, expectations=expectations)
    except (GreatExpectationsError, ValueError, TypeError) as error:
        raise SettingsError(f"expectation suite {name!r} is broken: {error}. Next: correct its JSON.") from error
    for expectation in suite.expectations:
        if not isinstance(expectation, ColumnMapExpectation):
            raise SettingsError(
                f"expectation suite {name!r}: {expectation.expectation_type} does not judge single rows, and only such "
                "a check can quarantine. Next: use an expectation of the kind expect_column_values_…"
            )
    asset = context.data_sources.add_pandas("interactions").add_dataframe_asset("batches")
    return suite, asset.add_batch_definition_whole_dataframe("batch")


def _frame(batch: pa.RecordBatch, columns: Sequence[str]) -> pd.DataFrame:
    """The columns a suite looks at, as Great Expectations can compare them: labels as text, times in seconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = {}
    for name in columns:
        column = batch.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.string())
        elif pa.types.is_timestamp(column.type):
            column = pc.divide(column.cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
        plain[name] = column
    return pa.table(plain).to_pandas()


def _refuse_exception(check: str, info: Mapping[str, Any], quote: bool) -> None:
    """Raise for an expectation that raised. Its message is quoted only when no person's words can be in it."""
    raised = [one for one in (info, *info.values()) if isinstance(one, Mapping) and one.get("raised_exception")]
    if raised:
        kind = str(raised[0].get("exception_traceback") or "").strip().rsplit("\n", 1)[-1].split(":")[0]
        detail = raised[0].get("exception_message") if quote else kind
        raise SettingsError(
            f"expectation suite: {check} raised an exception ({detail}), which is no verdict on the data. "
            "Next: correct the expectation's kwargs."
        )


class Validation:
    """One pass over ingested batches: `clean()` streams the rows let through, `refuse` is given the quarantined ones.

    Memory is bounded by the largest input batch. `result()` may be asked at any time and is complete once `clean()`
    is exhausted or has raised `QuarantineLimitError`.
    """

    def __init__(
        self,
        batches: Iterable[pa.RecordBatch],
        suite: Mapping[str, Any],
        settings: ValidateSettings,
        refuse: Callable[[pa.RecordBatch], None],
        *,
        expected_rows: int | None = None,
        look_in: str = "the quarantine table",
    ) -> None:
        """`batches` follow `schema.ingested_schema()` and never split a user, so that uniqueness is exact.

        `refuse` gets batches of `schema.quarantine_schema()`. With `expected_rows` (of the whole input) the run stops
        as soon as the limit is certain to be passed; without it, at the end. Raises `SettingsError` for a broken suite.
        """
        self.rows_in = self.rows_out = self.rows_quarantined = self.groups = 0
        self.stopped = False
        self._batches, self._suite, self._settings, self._refuse = batches, suite, settings, refuse
        self._expected_rows, self._look_in = expected_rows, look_in
        self._checks = _Checks(suite)

    def clean(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows let through, in `schema.interactions_schema()`, order untouched; use it once.

        Raises `QuarantineLimitError` past the limit, and `RowsLostError` if the counts do not add up at the end.
        """
        for group in joined_batches(self._batches, ingested_schema(), GROUP_ROWS, GROUP_BYTES):
            self.rows_in += group.num_rows
            self.groups += 1
            kept = self._judge(group)
            if self._expected_rows:
                self._stop_past_limit(self._expected_rows, sure=self.rows_in >= self._settings.min_rows_to_stop)
            if kept.num_rows:
                yield kept
        self._stop_past_limit(self.rows_in, sure=self.rows_in >= self._settings.min_rows_to_stop or not self.rows_out)
        require_rows("validate", self.rows_in, self.rows_out, self.rows_quarantined)

    def _judge(self, group: pa.RecordBatch) -> pa.RecordBatch:
        import numpy as np

        failures = self._checks.failures(group)
        keep = np.ones(group.num_rows, dtype=bool)
        keep[list(failures)] = False
        if failures:
            self._refuse(_quarantined(group, failures))
        kept = group.select(interactions_schema().names).filter(keep)
        self.rows_quarantined += len(failures)
        self.rows_out += kept.num_rows
        return kept

    def _stop_past_limit(self, rows: int, sure: bool) -> None:
        limit = self._settings.max_quarantined_share
        if not sure or self.rows_quarantined <= limit * rows:
            return
        self.stopped = True
        commonest = sorted(self._checks.report(), key=lambda check: -check["failed"])[:3]
        named = ", ".join(f"{check['check']}: {check['failed']}" for check in commonest if check["failed"])
        raise QuarantineLimitError(
            f"{self.rows_quarantined} of {self.rows_in} rows were quarantined "
            f"({self.rows_quarantined / self.rows_in:.1%}), past "
            f"validate.max_quarantined_share={limit}. Commonest checks failed: {named}. "
            f"Next: look at the rows in {self._look_in}; correct the corpus or its reader, or raise "
            "validate.max_quarantined_share if so much refusal is expected."
        )

    def result(self) -> dict[str, Any]:
        """JSON-able counts; holds no value of any row."""
        return {
            "suite": self._suite["name"],
            "suite_fingerprint": fingerprint(self._suite),
            "settings": self._settings.model_dump(mode="json"),
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rows_quarantined": self.rows_quarantined,
            "batches": self.groups,
            "checks": self._checks.report(),
            "stopped": self.stopped,
        }


def _quarantined(group: pa.RecordBatch, failures: Mapping[int, list[str]]) -> pa.RecordBatch:
    import pyarrow as pa

    refused = group.take(pa.array(list(failures)))
    # As text, because Python has no date past the year 9999, and such a time is a reason to be here.
    times = refused.column("time").cast(pa.timestamp("us")).cast(pa.string())
    refused = refused.set_column(refused.schema.get_field_index("time"), "time", times)
    rows = []
    for row, checks in zip(refused.to_pylist(), failures.values(), strict=True):
        whole = {**row, "attributes": dict(row["attributes"] or [])}
        known = {name: row[name] for name in ("user_id", "record_id", "source")}
        rows.append({**known, "checks": checks, "row": json.dumps(whole, ensure_ascii=False)})
    return pa.RecordBatch.from_pylist(rows, schema=quarantine_schema())


def run_validation(
    batches: Iterable[pa.RecordBatch],
    suite: Mapping[str, Any],
    settings: ValidateSettings,
    *,
    clean: Path,
    quarantine: Path,
    expected_rows: int | None = None,
) -> dict[str, Any]:
    """Validate `batches` into two tables, at `clean` and `quarantine`, and return the result.

    The quarantine table's manifest carries the result under `validation`. When validation stops, the quarantine table
    is written all the same (it is where to look), the clean table is not, and `QuarantineLimitError` is raised.
    """
    stop: QuarantineLimitError | None = None
    with new_table(quarantine, quarantine_schema()) as refused:
        validation = Validation(
            batches, suite, settings, refused.write, expected_rows=expected_rows, look_in=str(quarantine)
        )
        try:
            with new_table(clean, interactions_schema()) as passed:
                for batch in validation.clean():
                    passed.write(batch)
                require_rows("validate", validation.rows_in, passed.rows, refused.rows)
        except QuarantineLimitError as error:
            stop = error
        refused.notes["validation"] = validation.result()
    if stop is not None:
        raise stop
    return validation.result()
