"""Progress bars with rates and time left, for library functions that report through a callback."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

Piece = TypeVar("Piece", bound=Hashable)


def bar(title: str, unit: str) -> Callable[..., None]:
    """A callback `(done, total, **figures)` that draws one bar and closes it when `done` reaches `total`."""
    state: dict[str, Any] = {}

    def advance(done: int, total: int, **figures: Any) -> None:
        if "closed" in state:  # who is done may say so twice
            return
        if "bar" not in state:
            state["bar"] = _drawn(title, unit, total)
        drawn = state["bar"]
        if figures:
            drawn.set_postfix(figures, refresh=False)
        drawn.update(done - drawn.n)
        if done >= total:
            drawn.close()
            state["closed"] = True

    return advance


def shared_bar(title: str, unit: str, sizes: Mapping[Piece, int]) -> dict[Piece, Callable[..., None]]:
    """One bar over pieces of work of these sizes, done in this order: a callback as of `bar` for each piece."""
    draw, total = bar(title, unit), sum(sizes.values())
    begins = accumulate(sizes.values(), initial=0)
    return {piece: partial(_further, draw, total, before) for piece, before in zip(sizes, begins, strict=False)}


def _further(draw: Callable[..., None], total: int, before: int, done: int, _: int, **figures: Any) -> None:
    draw(before + done, total, **figures)


def counter(title: str, unit: str, total: int) -> Callable[[], None]:
    """A callback without arguments that moves a bar of `total` on by one."""
    draw, state = bar(title, unit), {"done": 0}

    def advance() -> None:
        state["done"] += 1
        draw(state["done"], total)

    return advance


def rows(batches: Iterable[Any], title: str, total: int | None) -> Iterator[Any]:
    """The same record batches, with a bar over their rows; without `total` it shows the rate alone."""
    with _drawn(title, "row", total) as drawn:
        for batch in batches:
            drawn.update(batch.num_rows)
            yield batch


def _drawn(title: str, unit: str, total: int | None) -> Any:
    import sys

    from tqdm import tqdm

    # a terminal is redrawn often; a log file gets a line every ten seconds
    interval = 0.2 if sys.stderr.isatty() else 10
    return tqdm(total=total, desc=title, unit=unit, mininterval=interval, dynamic_ncols=True)
