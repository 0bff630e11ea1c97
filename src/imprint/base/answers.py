"""Answers that share their beginnings: how likely a model finds each of them, without reading anything twice.

    [bos] query <eos> ──► "The " ──► "Matrix <eos>"        the query once, a beginning that several answers have once,
                             └────► "Mummy <eos>"          and no branch that need not be known (`Needed`)

A causal model reads them as a tree that grows on the query (`continuation.Branches`). A model that cannot reads each
beginning as a row with a copy of the query before it, which is dear where a history stands in the query too
(docs/log.md).

A likelihood is the probability that the model gives exactly this answer: the sum of log-probabilities over its tokens,
`<eos>` among them. It is not divided by the length, because the answers of a model with an end add up to one as they
are, and a longer one is no better for being long.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from imprint.base.continuation import Branches, Continuation, can_branch, continued
from imprint.base.examples import Encoder, Interaction
from imprint.base.families import logits_of

ROWS = 256
"""Nodes in one pass."""

Beside = Callable[[Sequence[int], bool], AbstractContextManager[None]]
"""Within the block the model reads rows of the prompts of these numbers, one a row: the prompts themselves, or, where
the second is false, what continues them."""


class Needed(NamedTuple):
    """Which answers to a prompt need be known: all that are not less likely than `floor`.

    Where more than `enough` are known to be likelier than `ceiling`, none of the others is needed either.
    """

    floor: float = -math.inf
    ceiling: float = math.inf
    enough: int = 0


class Answers:
    """Texts, one of which is right."""

    def __init__(self, texts: Sequence[str]) -> None:
        """`texts` are distinct, and keep their order everywhere."""
        self.texts = tuple(texts)
        self._trees: dict[Encoder, AnswerTree] = {}

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each text stands."""
        return {text: place for place, text in enumerate(self.texts)}

    def tree(self, encoder: Encoder) -> AnswerTree:
        """The answers as this encoder writes responses, made once."""
        if encoder not in self._trees:
            examples = (encoder.example(Interaction("", "", "", text)) for text in self.texts)
            self._trees[encoder] = AnswerTree([one.input_ids[one.response_start :] for one in examples])
        return self._trees[encoder]


class AnswerTree:
    """Token ids of answers as a tree: every node but the root is one token, and a path to a leaf is an answer.

    Nodes are numbered level by level, so that the children of one stand together: `token`, `first` child and `children`
    (how many) of each node are [nodes]. `ends` [answers] has the node in which each answer ends, `ending` [nodes] how
    many do in each: answers that a length limit made equal end in the same one.
    """

    def __init__(self, paths: Sequence[tuple[int, ...]]) -> None:
        """Each path is the ids of one answer, `<eos>` included."""
        grown: list[dict[int, int]] = [{}]
        ends = [_grow(grown, path) for path in paths]
        tokens, first, children = [0], [0] * len(grown), [len(branches) for branches in grown]
        number, order = [0] * len(grown), [0]
        for node in order:  # grows while it is walked: level by level
            first[number[node]] = len(order)
            for token, child in grown[node].items():
                number[child] = len(order)
                order.append(child)
                tokens.append(token)
        self.token = torch.tensor(tokens)
        self.first = torch.tensor(first)
        self.children = torch.tensor([children[node] for node in order])
        self.ends = torch.tensor([number[end] for end in ends])
        self.ending = torch.bincount(self.ends, minlength=len(tokens))
        self.depth = max(map(len, paths))

    def __len__(self) -> int:
        """How many answers."""
        return len(self.ends)

    def to(self, device: torch.device) -> AnswerTree:
        """The same tree there."""
        if self.token.device == device:
            return self
        moved = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved


def _grow(grown: list[dict[int, int]], path: tuple[int, ...]) -> int:
    node = 0
    for token in path:
        if token not in grown[node]:
            grown[node][token] = len(grown)
            grown.append({})
        node = grown[node][token]
    return node


class _Front(NamedTuple):
    """Nodes of one level that are reached.

    `owner` is the number of each one's prompt, which never falls, `after` the place in `text` of the node before it,
    `log` its log-probability; each is [nodes]. The tokens of `node` are not in `text` yet, which is None before
    anything is read.
    """

    owner: Tensor
    node: Tensor
    after: Tensor
    log: Tensor
    text: Any

    def take(self, places: Tensor | slice) -> _Front:
        return _Front(self.owner[places], self.node[places], self.after[places], self.log[places], self.text)


def likelihoods(
    model: nn.Module,
    prompts: Sequence[Sequence[tuple[int, ...]]],
    tree: AnswerTree,
    needed: Sequence[Sequence[Needed]],
    beside: Beside = lambda numbers, prompts: nullcontext(),
) -> Tensor:
    """Log-likelihood of every answer after every prompt, [prompts, answers], fp32; prompts are counted slot by slot.

    `needed` of each prompt are those of all who asked it: an answer that none of them needs may be -inf; all others are
    exact. `prompts` of several slots stay side by side in every pass, as many of each, as `memory.stack` wants them.
    """
    device = next(model.parameters()).device
    reads = _Grown if can_branch(model) else _Copied
    tree, reader = tree.to(device), reads(model, prompts, beside)
    found = torch.full((reader.count, len(tree.token)), -math.inf, device=device)
    limits, fronts = _Limits(needed, device), [reader.beginning()]
    with torch.no_grad():
        while fronts:
            front = fronts.pop()
            front = front.take(front.log >= limits.floor[front.owner])
            if not len(front.node):
                continue
            hidden, text = reader.read(front, tree)
            ahead = _ahead(front, logits_of(model, hidden), tree, text)
            found[ahead.owner, ahead.node] = ahead.log
            limits.count(ahead.owner, ahead.log, tree.ending[ahead.node])
            fronts += reader.in_passes(ahead.take(tree.children[ahead.node] > 0))
    return found[:, tree.ends].cpu()


class _Limits:
    """What is still needed of each prompt: `floor` [prompts], below which no answer is, inf where all are known."""

    def __init__(self, needed: Sequence[Sequence[Needed]], device: torch.device) -> None:
        most = max(map(len, needed))
        padded = [[*some, *[Needed(floor=math.inf)] * (most - len(some))] for some in needed]
        # [prompts, most] each
        self._floor, self._ceiling, self._enough = torch.tensor(padded, device=device).unbind(-1)
        self._above = torch.zeros_like(self._enough)
        self.floor = self._floor.amin(dim=1)

    def count(self, owner: Tensor, log: Tensor, ending: Tensor) -> None:
        """Answers that are now known: how many end with each log-probability, and whose prompt they answer."""
        self._above.index_add_(0, owner, ending[:, None] * (log[:, None] > self._ceiling[owner]).float())
        self.floor = self._floor.masked_fill(self._above > self._enough, math.inf).amin(dim=1)


def _ahead(front: _Front, logits: Tensor, tree: AnswerTree, text: Any) -> _Front:
    """All children of a front's nodes; `logits` [rows, vocabulary] are those of the token after each."""
    logs = torch.log_softmax(logits.float(), dim=-1)
    many = tree.children[front.node]
    row = torch.repeat_interleave(torch.arange(len(many), device=many.device), many)
    within = torch.arange(len(row), device=many.device) - (many.cumsum(0) - many)[row]
    child = tree.first[front.node][row] + within
    return _Front(front.owner[row], child, row, front.log[row] + logs[row, tree.token[child]], text)


class _Reader(ABC):
    """Prompts, and how nodes that continue them are put to the model."""

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[tuple[int, ...]]], beside: Beside) -> None:
        self._model, self._beside, self._device = model, beside, next(model.parameters()).device
        self._prompts = [prompt for slot in prompts for prompt in slot]
        slot_of = [number for number, slot in enumerate(prompts) for _ in slot]
        self._slot_of, self._slots = torch.tensor(slot_of, device=self._device), len(prompts)
        self.count = len(self._prompts)

    @abstractmethod
    def read(self, front: _Front, tree: AnswerTree) -> tuple[Tensor, Any]:
        """Hidden states after each node, [nodes, width], and the text that these very nodes end."""

    def beginning(self) -> _Front:
        """Every prompt, nothing answered."""
        owner = torch.arange(self.count, device=self._device)
        return _Front(owner, torch.zeros_like(owner), owner, torch.zeros(self.count, device=self._device), None)

    def in_passes(self, front: _Front) -> Iterator[_Front]:
        """The nodes of a front, as many together as one pass takes."""
        return (front.take(slice(start, start + ROWS)) for start in range(0, len(front.node), ROWS))

    def _in_slots(self, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Rows slot after slot, as many in each, and where each row went; `owner` never falls."""
        slot = self._slot_of[owner]
        counts = torch.bincount(slot, minlength=self._slots)
        starts, most = counts.cumsum(0) - counts, int(counts.max())
        steps = torch.arange(most, device=owner.device)
        # a slot with fewer rows repeats one of its own, a slot with none takes anybody's
        last = (starts + (counts - 1).clamp(min=0)).clamp(max=len(owner) - 1)
        laid = torch.minimum(starts[:, None] + steps, last[:, None]).flatten()
        return laid, slot * most + torch.arange(len(owner), device=owner.device) - starts[slot]


class _Grown(_Reader):
    """A row is a prompt, and all that continues it grows on that."""

    def read(self, front: _Front, tree: AnswerTree) -> tuple[Tensor, Branches]:
        laid, back = self._rows
        with self._beside(laid.tolist(), front.text is None):
            if front.text is None:
                text = Branches(self._model, [self._prompts[number] for number in laid], 0).of(back)
            else:
                text = front.text.grown(front.after, tree.token[front.node])
        return text.hidden, text

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor]:
        return self._in_slots(torch.arange(self.count, device=self._device))


class _Copied(_Reader):
    """A row is a node, and holds all that is before it."""

    def read(self, front: _Front, tree: AnswerTree) -> tuple[Tensor, Continuation]:
        laid, back = self._in_slots(front.owner)
        owner = front.owner[laid].tolist()
        with self._beside(owner, front.text is None):
            if front.text is None:
                text = continued(self._model, [self._prompts[number] for number in owner], 0, tree.depth)
                hidden = text.step(None)
            else:
                text = front.text.of(front.after[laid])
                hidden = text.step(tree.token[front.node[laid]])
        if self._slots == 1:  # nothing was moved, and a copy of all that was read is dear
            return hidden, text
        return hidden[back], text.of(back)  # rows that only fill a slot are left behind
