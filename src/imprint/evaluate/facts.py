"""What a method knows of its user, and what it makes up: on corpora that know their users' facts.

Such rows have the attributes `kind` (`fact`: asked for a fact that the user gave before; `absent`: for one never
given), `fact` (which) and `value`. The fabricated corpus has them; where one is missing, `kind` is a column of
somebody's own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from imprint.base.examples import Interaction
from imprint.evaluate.per_user import PerUser


def facts(
    responses: Iterable[Mapping[str, Any]], rows: Iterable[Interaction], values: Mapping[str, Collection[str]]
) -> PerUser:
    """`fact_presence` and `fact_absence` of each user and method, where a response was to such a question.

    `rows` are the test rows that were asked, `values` those that all users gave of each fact.
    """
    about = {row.record_id: dict(row.attributes) for row in rows}
    kept: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for row in responses:
        attributes = about.get(row["record_id"], {})
        place = row["method"], row["user_id"]
        if attributes.get("kind") == "fact" and "value" in attributes:
            kept[*place, "fact_presence"].append(holds(row["response"], attributes["value"]))
        elif attributes.get("kind") == "absent" and "fact" in attributes:
            known = values.get(attributes["fact"], ())
            kept[*place, "fact_absence"].append(not any(holds(row["response"], value) for value in known))
    found: PerUser = defaultdict(lambda: defaultdict(dict))
    for (method, user_id, metric), held in kept.items():
        found[method][metric][user_id] = sum(held) / len(held)
    return {method: dict(metrics) for method, metrics in found.items()}


def asks_for_absent(rows: Iterable[Interaction]) -> bool:
    """Whether any of these rows asks for a fact that its user never gave."""
    asked = (dict(row.attributes) for row in rows)
    return any(attributes.get("kind") == "absent" and "fact" in attributes for attributes in asked)


def holds(text: str, value: str) -> bool:
    """Whether a text has a value in it as whole words, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(value.casefold())}(?!\w)", text.casefold()) is not None
