"""Validate interactions, and show what was refused."""

from pathlib import Path
from typing import Any

from imprint.data.validate import ValidateSettings
from pipelines import progress


def validate_interactions(
    ingested: Any, interaction_expectations: Path, validate: ValidateSettings, spool: Path, stopped_page: Path
) -> tuple[Path, Path, dict[str, Any]]:
    """The rows let through, the quarantine, and the result by check."""
    from imprint.data.suite import load_suite
    from imprint.data.validate import run_validation
    from imprint.data.validation_page import page_when_stopped

    clean, quarantine = spool / "interactions", spool / "quarantine"
    batches = progress.rows(ingested, "validate", ingested.rows)
    with page_when_stopped(quarantine, stopped_page):
        result = run_validation(
            batches,
            load_suite(interaction_expectations),
            validate,
            clean=clean,
            quarantine=quarantine,
            expected_rows=ingested.rows,
        )
    return clean, quarantine, result


def render_validation_page(validation_result: dict[str, Any], quarantine: Any) -> str:
    """A page for an auditor: what came in, what was refused and why."""
    from imprint.data.validation_page import quarantine_examples, render_validation

    return render_validation(validation_result, quarantine_examples(quarantine.to_batches()))
