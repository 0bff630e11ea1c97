"""From interactions to examples: `[bos] query <eos> response <eos>`, with loss on the response and the last `<eos>`.

This is DialoGPT's turn format, and works for any tokenizer that has an end-of-sequence token. A function here takes one
user's rows and returns a value, so that nothing of one user can reach another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from imprint.errors import BaseModelError
from imprint.provenance import fingerprint_of_rows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Interaction:
    """What a model needs of one interaction. `order` is its place in the user's history; `attributes` are pairs.

    `task` names one of `tasks.TASKS`.
    """

    user_id: str
    record_id: str
    query: str
    response: str
    persona: tuple[str, ...] = ()
    order: int = 0
    attributes: tuple[tuple[str, str], ...] = ()
    task: str = "dialogue"


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one interaction; the response (with its `<eos>`) starts at `response_start`."""

    user_id: str
    record_id: str
    input_ids: tuple[int, ...]
    response_start: int
    truncated: bool

    @property
    def response_tokens(self) -> int:
        """Tokens the loss is taken over."""
        return len(self.input_ids) - self.response_start


class KeptExamples(Sequence[Example]):
    """One user's examples as three arrays, for who holds those of many users and reads a few at a time.

    As objects they take ten times as much memory. And who looks at an object writes into it (its count of references):
    a process that was forked from this one would be left with a copy of all that is looked at here.
    """

    def __init__(self, user_id: str, examples: Iterable[Example]) -> None:
        """Take over what there is of `examples`, all of this user."""
        import numpy as np
        import pyarrow as pa

        rows = list(examples)
        self._user_id = user_id
        self._record_ids = pa.array([row.record_id for row in rows], pa.string())
        self._ids = np.array([token for row in rows for token in row.input_ids], dtype=np.int32)
        # of each row: where its tokens end, where its response starts, whether it is truncated
        about = [(len(row.input_ids), row.response_start, row.truncated) for row in rows]
        self._about = np.array(about, dtype=np.int64).reshape(-1, 3)
        self._about[:, 0] = np.cumsum(self._about[:, 0])

    def __len__(self) -> int:
        """How many there are."""
        return len(self._about)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...

    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        """One of them, or some: objects, made now."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        row = range(len(self))[place]
        end, start, truncated = self._about[row].tolist()
        ids = self._ids[self._about[row - 1, 0] if row else 0 : end].tolist()
        return Example(self._user_id, self._record_ids[row].as_py(), tuple(ids), start, bool(truncated))


def fingerprint_of_examples(examples: Iterable[Example]) -> str:
    """16 hex digits over what a model is shown of each example, in order."""
    return fingerprint_of_rows(f"{one.record_id}\x1f{one.response_start}\x1f{one.input_ids}" for one in examples)


@dataclass(frozen=True, slots=True)
class Encoder:
    """A tokenizer with the two lengths that bound an example."""

    tokenizer: PreTrainedTokenizerBase
    max_query_tokens: int
    max_response_tokens: int

    def __post_init__(self) -> None:
        """Refuse a tokenizer that cannot end a response."""
        if self.tokenizer.eos_token_id is None:
            raise BaseModelError(
                "base.path: the tokenizer has no end-of-sequence token, which ends a query and a response; "
                "next: set eos_token in its tokenizer_config.json."
            )

    def prompt(self, query: str) -> tuple[tuple[int, ...], bool]:
        """Ids up to where the response starts, and whether the query was cut (it keeps its end)."""
        ids = self._ids(query)
        kept = ids[-self.max_query_tokens :]
        start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        return (*start, *kept, self._eos), len(kept) < len(ids)

    def example(self, row: Interaction) -> Example:
        """One interaction as token ids."""
        prompt, cut_query = self.prompt(row.query)
        ids = self._ids(row.response)
        kept = ids[: self.max_response_tokens]
        return Example(
            user_id=row.user_id,
            record_id=row.record_id,
            input_ids=(*prompt, *kept, self._eos),
            response_start=len(prompt),
            truncated=cut_query or len(kept) < len(ids),
        )

    def examples(self, rows: Iterable[Interaction]) -> list[Example]:
        """One example a row, in order."""
        return [self.example(row) for row in rows]

    @property
    def _eos(self) -> int:
        return int(self.tokenizer.eos_token_id)  # type: ignore[arg-type]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded rows and the places where the model predicts a response token.

    `input_ids` is [rows, width], padded on the right (a causal model cannot see it); responses begin at `starts`,
    [rows]. `owner`, `position` and `label`, each [response tokens], say: at `position` of row `owner` the next token is
    `label`.
    """

    input_ids: torch.Tensor
    starts: torch.Tensor
    owner: torch.Tensor
    position: torch.Tensor
    label: torch.Tensor

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return int(self.input_ids.shape[0])


def collate(examples: Sequence[Example | None], padding: int = 0, device: Any = "cpu") -> Batch:
    """Stack examples into one batch; None is a row of padding."""
    import numpy as np
    import torch

    lengths = np.array([0 if one is None else len(one.input_ids) for one in examples])
    starts = np.array([1 if one is None else one.response_start for one in examples])
    ids = np.full((len(examples), lengths.max()), padding, dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = [i for one in examples if one is not None for i in one.input_ids]
    places = np.arange(ids.shape[1])
    owner, place = np.nonzero((places >= starts[:, None]) & (places < lengths[:, None]))
    tensors = (torch.from_numpy(array) for array in (ids, starts, owner, place - 1, ids[owner, place]))
    return Batch(*(tensor.to(device, non_blocking=True) for tensor in tensors))
