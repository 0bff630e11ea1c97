"""LaMP's files in pairs: questions, the outputs beside them, and which of the tasks they are of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imprint.corpora.reading import refuse_unreadable
from imprint.corpora.records import json_list
from imprint.errors import CorpusError

NUMBERS = {"1": "citation", "2M": "tag", "2N": "news_category", "3": "rating", "4": "headline", "5": "title"} | {
    "6": "subject",
    "7": "paraphrase",
}
"""Number of a LaMP task to its name here; plain `2` is 2M or 2N."""
SPLITS = ("train", "dev", "test")
QUESTIONS = "_questions.json"
_NAME = re.compile(r"lamp[-_ ]?([1-7])([mn]?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """One file of questions with its golds by question id (None: a gold without output).

    `golds` as a whole is None where the outputs are not published.
    """

    questions: Path
    split: str
    number: str
    task: str
    golds: dict[str, str | None] | None
    repeated: tuple[str, ...]


def pair_of(questions: Path) -> Pair:
    """The pair of a file of questions. `CorpusError` where nothing says which task it is."""
    outputs = outputs_of(questions)
    named, golds, repeated = _golds(outputs) if outputs.is_file() else ("", None, ())
    match = _NAME.search(named) or next((found for one in _folders(questions) if (found := _NAME.search(one))), None)
    if match is None:
        raise CorpusError(
            f"neither the outputs of {questions} nor a folder above say which LaMP task it is. "
            "Next: name the folder LaMP_1 to LaMP_7."
        )
    number = match[1] + match[2].upper()
    if number == "2":
        first = next(json_list(questions), None)
        number += "M" if isinstance(first, dict) and "movie" in str(first.get("input")) else "N"
    task = NUMBERS.get(number) or NUMBERS[match[1]]
    return Pair(questions, questions.name.removesuffix(QUESTIONS), match[1], task, golds, repeated)


def outputs_of(questions: Path) -> Path:
    """The file of outputs that belongs to a file of questions."""
    return questions.with_name(questions.name.removesuffix(QUESTIONS) + "_outputs.json")


def _folders(questions: Path) -> list[str]:
    return [parent.name for parent in questions.resolve().parents]


def _golds(outputs: Path) -> tuple[str, dict[str, str | None], tuple[str, ...]]:
    """`(task as the file names it, output by id, ids that came again)`. Read whole, for it has no histories."""
    refuse_unreadable(outputs)
    found: dict[str, str | None] = {}
    repeated: list[str] = []
    try:
        value = json.loads(outputs.read_bytes())
        for gold in value["golds"]:
            if (name := str(gold["id"])) in found:
                repeated.append(name)
            else:
                found[name] = text_of(gold.get("output"))
        return str(value.get("task", "")), found, tuple(repeated)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorpusError(
            f'{outputs} is not an outputs file of LaMP, {{"task": …, "golds": [{{"id": …, "output": …}}]}} '
            f"({type(error).__name__}). Next: fetch the file again."
        ) from error


def text_of(value: Any) -> str | None:
    """Text as it is, a number by its digits (5.0 as 5), anything else as None."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else None


def place_of(split: str) -> int:
    """The place of a split in the order in which splits are read."""
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)
