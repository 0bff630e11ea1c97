"""Every compared method fitted on the same histories, and measured on the same test rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from imprint.base.histories import IndexRow, all_rows, read_histories, users_of
from imprint.base.loss import mean_loss
from imprint.evaluate.choices import Choosing, choosing_of, with_choices
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.measure import Rows, answer_rows, held_out_rows, score_rows, specificity_matrix
from imprint.evaluate.settings import EvaluateSettings
from imprint.evaluate.tables import responses_table, scores_table
from imprint.evaluate.unrelated import unrelated_rows
from imprint.personalizers.protocol import Histories, Personalizer, question_of
from imprint.personalizers.unpersonalised import Unpersonalised

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads

EXCHANGED = 12
"""Users who are asked as each other, at most: rows to score grow with the square, and a prompt may hold a history."""
Bars = Callable[[str, str, int], Callable[[], None]]
"""From title, unit and total to what moves the bar on by one."""


def no_bars(title: str, unit: str, total: int) -> Callable[[], None]:
    """Nothing is drawn."""
    return lambda: None


def measure_method(
    method: Personalizer,
    histories: Histories,
    scored: Rows,
    asked: Rows,
    settings: EvaluateSettings,
    choosing: Choosing,
    bars: Bars = no_bars,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Records of scores and of responses, and what all that took: seconds, bytes by user, and tokens of the prompts."""
    choices = sum(len(choosing.chosen_of(mine)) for mine in scored.values())
    began = time.perf_counter()
    spared = method.fit(histories)
    fitted = time.perf_counter()
    scores = score_rows(method, scored, bars(f"{method.name}: scores", "user", len(scored)))
    done = time.perf_counter()
    scores = with_choices(method, scored, scores, choosing, bars(f"{method.name}: choices", "choice", choices))
    decided = time.perf_counter()
    drawn = bars(f"{method.name}: responses", "user", len(asked))
    responses = answer_rows(method, asked, settings.max_new_tokens, drawn)
    answered = time.perf_counter()
    seconds = {
        "fit": fitted - began + spared,
        "score": done - fitted,
        "choose": decided - done,
        "respond": answered - decided,
    }
    size = {user_id: method.bytes_of(user_id) for user_id in histories}
    prompts = method.prompts([question_of(row) for row in all_rows(scored)])
    counts = {
        "scored": len(scores),
        "chosen": sum(row["gold"] is not None for row in scores),
        "answered": len(responses),
        "prompt_tokens": sum(map(len, prompts)),
    }
    return scores, responses, {"seconds": seconds, "bytes": size, **counts}


def measure_run(
    methods: Iterable[Personalizer],
    table: pads.Dataset,
    index: Sequence[IndexRow],
    settings: EvaluateSettings,
    judge: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list,
    bars: Bars = no_bars,
) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """Every method fitted on reported users' training rows, measured on their test rows.

    `judge` adds `won` to the records of responses (`wins`), and `bars(title, unit, total)` draws progress.
    """
    histories = read_histories(table, users_of(index, "reported"), "train")
    scored = held_out_rows(table, index, settings.max_test_rows)
    asked = held_out_rows(table, index, settings.responses_per_user)
    choosing = choosing_of(Everybody(table), index, settings)
    some = users_of(index, "reported")[: min(EXCHANGED, settings.specificity_users)]
    exchanged = held_out_rows(table, some, settings.specificity_rows)
    scores, responses, found = [], [], {}
    for method in methods:
        mine, answered, found[method.name] = measure_method(method, histories, scored, asked, settings, choosing, bars)
        found[method.name] |= knowing(method, exchanged)
        scores += mine
        responses += answered
    return scores_table(scores), responses_table(judge(responses)), found


def knowing(method: Personalizer, rows: Rows) -> dict[str, Any]:
    """What knowing a user changes: `specificity`, the matrix of these users.

    Of a method that knows nobody `unrelated`, the loss that others' drift on the unrelated text is counted from.
    """
    if isinstance(method, Unpersonalised):
        return {"unrelated": mean_loss(method.score(unrelated_rows()))}
    return {"specificity": specificity_matrix(method, rows)}
