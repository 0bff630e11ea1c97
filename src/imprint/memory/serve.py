"""Answering as a fleet: rows and queries of many users in one pass, each under its own user's memory.

Every pass holds some slots, each with one memory (or none) and some of its rows. A row sees its own slot's factors and
its own tokens, so an answer does not depend on the company.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imprint.base.answers import ROWS as ROWS_OF_ANSWERS
from imprint.base.answers import Answers, Needed, likelihoods
from imprint.base.continuation import continued
from imprint.base.examples import Example
from imprint.base.families import logits_of
from imprint.base.fused import fused
from imprint.base.halves import in_halves
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss, nats_of
from imprint.base.narrow import is_narrow
from imprint.base.sites import layers_of
from imprint.base.trunk import layers_for
from imprint.errors import IncompatibleBaseError
from imprint.memory.forked import ForkedLane, Lane, may_fork
from imprint.memory.lanes import Stop, in_lanes, lanes_of, one_thread
from imprint.memory.stack import stack_memories, stacked
from imprint.memory.weights import Memory

log = logging.getLogger(__name__)

ROWS = 16
"""Rows of one slot in one scoring pass."""
QUERIES = 256
"""Queries answered in one pass of a lane, all slots together."""
WORTH_A_THREAD, WORTH_A_PROCESS = 32, 128
"""Queries a lane from which on a second lane pays in writing (docs/log.md): a thread where steps are compiled
(`base/narrow.py`), elsewhere a process."""
ONE_THREAD = 128
"""Up to this width of a base a second thread within the products of writing gains a fifth at best, and loses as much
where the two do not share a cache (docs/log.md)."""


class _Slot(NamedTuple):
    """Rows of one memory, and where they stood in what was asked."""

    memory: Memory | None
    places: list[int]


class Server:
    """One base, answering for many memories at once."""

    def __init__(self, base: BaseModelInUse, slots: int) -> None:
        """A server on `base` that puts `slots` memories into one scoring pass."""
        self._base, self._slots = base, slots
        self._lanes = lanes_of(base)

    def score(self, memories: Sequence[Memory | None], examples: Sequence[Example]) -> list[RowLoss]:
        """The loss of each example under the memory beside it (None: the base as it is), in order.

        `IncompatibleBaseError` for a memory of another base.
        """
        lengths = [len(example.input_ids) for example in examples]
        slots = self._slots_of(memories, lengths, ROWS)
        slots.sort(key=lambda slot: (slot.memory is None, sum(lengths[place] for place in slot.places)))
        passes = _runs(slots, self._slots)

        def run(lane: BaseModelInUse, group: list[_Slot]) -> list[tuple[int, RowLoss]]:
            rows = [[examples[place] for place in slot.places] for slot in group]
            nats = _nats(lane, [slot.memory for slot in group], rows)
            places = [place for slot in group for place in slot.places]
            return [
                (place, RowLoss(examples[place].record_id, value, examples[place].response_tokens))
                for place, value in zip(places, nats, strict=True)
            ]

        return self._spread(run, passes, len(examples), len(self._lanes), _as_thread)

    def respond(self, memories: Sequence[Memory | None], queries: Sequence[str], max_new_tokens: int) -> list[str]:
        """Greedy response to each query under the memory beside it, in order."""
        return self.complete(memories, [self._base.encoder.prompt(query)[0] for query in queries], max_new_tokens)

    def complete(
        self, memories: Sequence[Memory | None], prompts: Sequence[tuple[int, ...]], max_new_tokens: int
    ) -> list[str]:
        """Greedy continuation of each prompt (token ids) under the memory beside it, in order."""
        slots = self._slots_of(memories, [len(prompt) for prompt in prompts], ROWS)
        # a step that is not compiled is many small operations: threads would wait for each other's Python
        compiled = in_halves(self._base.model) and is_narrow(layers_of(self._base.model))
        worth = WORTH_A_THREAD if compiled else WORTH_A_PROCESS
        lanes = len(self._lanes) if len(prompts) >= worth * len(self._lanes) and (compiled or may_fork()) else 1
        together = max(1, QUERIES // max((len(slot.places) for slot in slots), default=1))
        passes = _runs(slots, min(together, -(-len(slots) // lanes)))

        def run(lane: BaseModelInUse, group: list[_Slot]) -> list[tuple[int, list[int]]]:
            rows = [[prompts[place] for place in slot.places] for slot in group]
            answers = decode(lane, [slot.memory for slot in group], rows, max_new_tokens)
            return list(zip((place for slot in group for place in slot.places), answers, strict=True))

        narrow = self._base.model.get_input_embeddings().weight.shape[1] <= ONE_THREAD  # type: ignore[operator]
        with one_thread() if narrow else nullcontext():
            answers = self._spread(run, passes, len(prompts), lanes, _as_thread if compiled else ForkedLane)
        tokenizer = self._base.encoder.tokenizer
        return [tokenizer.decode(answer, skip_special_tokens=True).strip() for answer in answers]

    def likelihoods(
        self,
        memories: Sequence[Memory | None],
        prompts: Sequence[tuple[int, ...]],
        answers: Answers,
        needed: Sequence[Needed],
    ) -> torch.Tensor:
        """Log-likelihood of every answer after each prompt under the memory beside it, [prompts, answers].

        Equal prompts of one memory are read once. An answer that need not be known may be -inf (`base.answers`).
        """
        tree = answers.tree(self._base.encoder)
        alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for place, (memory, prompt) in enumerate(zip(memories, prompts, strict=True)):
            alike.setdefault((id(memory), prompt), []).append(place)
        first = [places[0] for places in alike.values()]
        by_all = [[needed[place] for place in places] for places in alike.values()]
        at_once = max(1, ROWS_OF_ANSWERS // len(tree))
        slots = self._slots_of([memories[place] for place in first], [len(prompts[place]) for place in first], at_once)
        passes = _runs(slots, max(1, at_once // max((len(slot.places) for slot in slots), default=1)))

        def run(lane: BaseModelInUse, group: list[_Slot]) -> list[tuple[int, torch.Tensor]]:
            rows = [[prompts[first[place]] for place in slot.places] for slot in group]
            places = [place for slot in group for place in slot.places]
            with stacked(lane, _factors([slot.memory for slot in group], next(lane.model.parameters()).device)):
                found = likelihoods(lane.model, rows, tree, [by_all[place] for place in places])
            return list(zip(places, found, strict=True))

        found = self._spread(run, passes, len(first), 1, _as_thread)
        of_prompt = {place: found[number] for number, places in enumerate(alike.values()) for place in places}
        return torch.stack([of_prompt[place] for place in range(len(prompts))])

    def _slots_of(self, memories: Sequence[Memory | None], lengths: Sequence[int], rows: int) -> list[_Slot]:
        """Rows of the same memory together, at most `rows` of similar length in one slot."""
        by_memory: dict[int, list[int]] = {}
        for place, memory in enumerate(memories):
            if memory is not None and memory.base_fingerprint != self._base.record.fingerprint:
                raise IncompatibleBaseError(memory.base_fingerprint, self._base.record.fingerprint)
            by_memory.setdefault(id(memory), []).append(place)
        slots = []
        for places in by_memory.values():
            places.sort(key=lambda place: lengths[place])
            slots += [_Slot(memories[places[0]], places[start : start + rows]) for start in range(0, len(places), rows)]
        return slots

    def _spread(
        self,
        run: Callable[[BaseModelInUse, list[_Slot]], list[tuple[int, Any]]],
        passes: list[list[_Slot]],
        count: int,
        lanes: int,
        elsewhere: Callable[[_Lane], Lane],
    ) -> list[Any]:
        """Passes over that many lanes, all but the first by `elsewhere`, and what they found in the order asked."""
        first, *others = (_Lane(base, run, passes) for base in self._lanes[:lanes])
        workers = [first, *map(elsewhere, others)]
        for worker in workers:
            try:
                worker.start()
            except OSError as error:  # it works on a thread of this one then
                log.warning("no room for another process (%s): answers take longer", error)
        work = [(worker, range(number, len(passes), lanes)) for number, worker in enumerate(workers)]
        parts = in_lanes(lambda one, stop: one[0].work(one[1], lambda: None, stop), work)
        found = dict(pair for pairs in parts for pair in pairs)
        return [found[place] for place in range(count)]


class _Lane:
    """One worker, and all passes, of which it is given some."""

    def __init__(
        self, base: BaseModelInUse, run: Callable[..., list[tuple[int, Any]]], passes: list[list[_Slot]]
    ) -> None:
        self._base, self._run, self._passes = base, run, passes

    def start(self) -> None:
        """Nothing to be done: this lane is where it is."""

    def forget_rows(self) -> None:
        """Nothing is kept."""

    def work(self, jobs: Sequence[int], on_done: Callable[[], None], stop: Stop) -> list[tuple[int, Any]]:
        """What is found in the passes of these numbers, each with its place."""
        found = []
        with torch.no_grad(), fused(self._base.model):
            for number in takewhile(lambda _: not stop.is_set(), jobs):
                found += self._run(self._base, self._passes[number])
                on_done()
        return found


def _as_thread(lane: _Lane) -> Lane:
    """The lane as it is: `in_lanes` gives it a thread."""
    return lane


def _runs(slots: Sequence[_Slot], count: int) -> list[list[_Slot]]:
    """Slots in groups of at most `count`; those with a memory never beside those with none."""
    groups: list[list[_Slot]] = []
    for slot in slots:
        if not groups or len(groups[-1]) == count or (groups[-1][0].memory is None) != (slot.memory is None):
            groups.append([])
        groups[-1].append(slot)
    return groups


def _factors(memories: Sequence[Memory | None], device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    stacks = stack_memories([memory for memory in memories if memory is not None])
    return {name: (a.to(device), b.to(device)) for name, (a, b) in stacks.items()}


def _nats(base: BaseModelInUse, memories: Sequence[Memory | None], rows: Sequence[Sequence[Example]]) -> list[float]:
    """Summed nats of each row's response, slot after slot."""
    device = next(base.model.parameters()).device
    layers = layers_for(base.model)
    batch = layers.rows(rows, device)
    with stacked(base, _factors(memories, device)):
        nats = nats_of(base.model, layers.at_labels(batch), batch.label)
    return torch.zeros(sum(map(len, rows)), device=nats.device).index_add_(0, batch.row, nats).tolist()


def decode(
    base: BaseModelInUse,
    memories: Sequence[Memory | None],
    prompts: Sequence[Sequence[tuple[int, ...]]],
    max_new_tokens: int,
) -> list[list[int]]:
    """Greedy continuation of every prompt, slot after slot, up to and without `<eos>`.

    Slots with fewer rows than others repeat their last.
    """
    rows = max(len(slot) for slot in prompts)
    filled = [prompt for slot in prompts for prompt in (*slot, *[slot[-1]] * (rows - len(slot)))]
    eos, device = int(base.encoder.tokenizer.eos_token_id), next(base.model.parameters()).device  # type: ignore[arg-type]
    written, ended = list[Tensor](), torch.zeros(len(filled), dtype=torch.bool, device=device)
    with stacked(base, _factors(memories, device)):
        text = continued(base.model, filled, eos, max_new_tokens)
        while len(written) < max_new_tokens and not (written and bool(ended.all())):
            written.append(logits_of(base.model, text.step(written[-1] if written else None)).argmax(-1))
            ended |= written[-1] == eos
            text.end(ended)
    answers = torch.stack(written, dim=1).tolist()
    real = [slot * rows + row for slot, mine in enumerate(prompts) for row in range(len(mine))]
    return [_until(answers[place], eos) for place in real]


def _until(ids: list[int], eos: int) -> list[int]:
    return ids[: ids.index(eos)] if eos in ids else ids
