"""The validation page: a result as one HTML file that needs no network, no script and no font, for an auditor.

Everything that comes from data is escaped, and characters that cannot be seen are written as codes, so that a text can
neither run in the browser nor hide in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imprint.data.atomic import write_bytes
from imprint.data.tables import read_batches
from imprint.errors import QuarantineLimitError
from imprint.storage import address

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_LIMIT = 80
HERE = Path(__file__).resolve().parent


def page_css() -> str:
    """The style sheet that every page of Imprint inlines."""
    return (HERE / "page.css").read_text(encoding="utf-8")


def quarantine_examples(batches: Iterable[pa.RecordBatch], per_check: int = 3, most: int = 30) -> list[dict[str, Any]]:
    """The first quarantined rows, at most `per_check` for a check and `most` in all, so that a rare check is seen too.

    `batches` are of `schema.quarantine_schema()`; rows come back as dictionaries with its keys.
    """
    shown: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    for batch in batches:
        for place, checks in enumerate(batch.column("checks").to_pylist()):
            if len(examples) == most:
                return examples
            if any(shown[check] < per_check for check in checks):
                shown.update(checks)
                examples += batch.slice(place, 1).to_pylist()
    return examples


def render_validation(result: Mapping[str, Any], examples: Sequence[Mapping[str, Any]]) -> str:
    """The page for a result of `validate.run_validation` and rows of `quarantine_examples`, as HTML text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": _percent, "count": _count}
    rows_in, quarantined = result["rows_in"], result["rows_quarantined"]
    return environment.get_template("validation_page.html.j2").render(
        css=Markup(page_css()),
        result=result,
        share=quarantined / rows_in if rows_in else 0.0,
        adds_up=rows_in == result["rows_out"] + quarantined,
        failed=sorted((check for check in result["checks"] if check["failed"]), key=lambda check: -check["failed"]),
        examples=[_shown(example) for example in examples],
        text_limit=TEXT_LIMIT,
    )


def _shown(example: Mapping[str, Any]) -> dict[str, Any]:
    row = json.loads(example["row"])
    return {
        "source": _short(example["source"]),
        "record_id": _short(example["record_id"]),
        "checks": [_in_words(check, row) for check in example["checks"]],
        "query": _short(row.get("query")),
        "response": _short(row.get("response")),
    }


def _in_words(check: str, row: Mapping[str, Any]) -> str:
    """A check's name; for an unreadable row, also what the reader said was wrong."""
    return f"{check}: {_short(row['problem'])}" if check.endswith("(problem)") and row.get("problem") else check


def _short(text: str | None) -> str:
    if text is None:
        return "(none)"
    cut = text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def _percent(share: float) -> str:
    """One decimal; a share that is not nothing is never shown as 0 %, nor one that is not all as 100 %."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def _count(number: int) -> str:
    return f"{number:,}"


@contextmanager
def page_when_stopped(quarantine: Path, page: Path) -> Iterator[None]:
    """Should validation stop within the block, write what was refused to `page`, and name the page in the error."""
    try:
        yield
    except QuarantineLimitError as error:
        table = read_batches(quarantine)
        html = render_validation(table.manifest["validation"], quarantine_examples(table))
        write_bytes(page, html.encode())
        raise QuarantineLimitError(f"{error} A page shows them: {address(page)}") from error
