"""Answers that share their beginnings: how likely a model finds each of them, without reading anything twice.

    [bos] query <eos> ──► "The " ──► "Matrix <eos>"        the query once, a beginning that several answers have once,
                             └────► "Mummy <eos>"          and no branch that is already less likely than the floor

A likelihood is the probability that the model gives exactly this answer: the sum of log-probabilities over its tokens,
`<eos>` among them. It is not divided by the length, because the answers of a model with an end add up to one as they
are, and a longer one is no better for being long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from imprint.base.encoder_decoder import start_of
from imprint.base.examples import Encoder, Interaction
from imprint.base.families import first_position, is_encoder_decoder, logits_of, reader_of

ROWS = 256
"""Rows in one pass."""

Places = Tensor | slice
Beside = Callable[[Sequence[int], bool], AbstractContextManager[None]]
"""Within the block the model reads rows of the prompts of these numbers, one a row: the prompts themselves, or, where
the second is false, what continues them."""


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
    (how many) of each node are [nodes]. `ends` [answers] has the node in which each answer ends; answers that a length
    limit made equal end in the same one.
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

    def __len__(self) -> int:
        """How many answers."""
        return len(self.ends)

    def to(self, device: torch.device) -> AnswerTree:
        """The same tree there."""
        if self.token.device == device:
            return self
        moved = copy(self)
        for name, tensor in vars(self).items():
            setattr(moved, name, tensor.to(device))
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
    """Nodes of one level that are reached, one a row.

    `owner` is the number of each row's prompt, `row` the row of `cache` that it continues, `log` its log-probability;
    each is [rows]. The tokens of `node` are not in `cache` yet.
    """

    owner: Tensor
    node: Tensor
    row: Tensor
    log: Tensor
    cache: Any

    def take(self, places: Places) -> _Front:
        return _Front(self.owner[places], self.node[places], self.row[places], self.log[places], self.cache)


def likelihoods(
    model: nn.Module,
    prompts: Sequence[Sequence[tuple[int, ...]]],
    tree: AnswerTree,
    floors: Sequence[float],
    beside: Beside = lambda numbers, prompts: nullcontext(),
) -> Tensor:
    """Log-likelihood of every answer after every prompt, [prompts, answers], fp32; prompts are counted slot by slot.

    `floors`, one a prompt: an answer that is less likely than it need not be known and may be -inf; all others are
    exact. `prompts` of several slots stay side by side in every pass, as many of each, as `memory.stack` wants them.
    """
    device = next(model.parameters()).device
    tree, reached = tree.to(device), _Reached(model, prompts, beside)
    found = torch.full((reached.count, len(tree.token)), -math.inf, device=device)
    floor = torch.tensor(floors, device=device)
    fronts = [reached.beginning()]
    with torch.no_grad():
        while fronts:
            front = fronts.pop()
            hidden, cache = reached.read(front, tree)
            ahead = _ahead(model, front, hidden, tree, cache)
            found[ahead.owner, ahead.node] = ahead.log
            fronts += reached.in_passes(ahead.take((tree.children[ahead.node] > 0) & (ahead.log >= floor[ahead.owner])))
    return found[:, tree.ends].cpu()


def _ahead(model: nn.Module, front: _Front, hidden: Tensor, tree: AnswerTree, cache: Any) -> _Front:
    """All children of a front's nodes; `hidden` [rows, width] is what the model says after each."""
    logs = torch.log_softmax(logits_of(model, hidden).float(), dim=-1)
    many = tree.children[front.node]
    row = torch.repeat_interleave(torch.arange(len(many), device=many.device), many)
    within = torch.arange(len(row), device=many.device) - (many.cumsum(0) - many)[row]
    child = tree.first[front.node][row] + within
    return _Front(front.owner[row], child, row, front.log[row] + logs[row, tree.token[child]], cache)


class _Reached:
    """Prompts, and how rows that continue them are put to the model."""

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[tuple[int, ...]]], beside: Beside) -> None:
        self._beside = beside
        self._model, self._first_position = model, first_position(model)
        self._encoded: Any = None
        self._prompts = [prompt for slot in prompts for prompt in slot]
        device = next(model.parameters()).device
        slot_of = [number for number, slot in enumerate(prompts) for _ in slot]
        self._slot_of, self._slots = torch.tensor(slot_of, device=device), len(prompts)
        self._width = max(map(len, self._prompts))
        lengths = torch.tensor([len(prompt) for prompt in self._prompts], device=device)
        self._padding = (self._width - lengths)[:, None]
        self.count = len(self._prompts)

    def beginning(self) -> _Front:
        """Every prompt, nothing answered."""
        owner = torch.arange(self.count, device=self._padding.device)
        return _Front(owner, torch.zeros_like(owner), owner, torch.zeros(len(owner), device=owner.device), None)

    def read(self, front: _Front, tree: AnswerTree) -> tuple[Tensor, Any]:
        """Hidden states after each row's last token, [rows, width], and the cache of these very rows."""
        laid, back = self._in_slots(front.owner)
        owner = front.owner[laid]
        if front.cache is None:
            filled = [(0,) * (self._width - len(one)) + tuple(one) for one in self._prompts]
            ids, cache = torch.tensor(filled, device=owner.device)[owner], None
        else:
            ids, cache = tree.token[front.node[laid]][:, None], _rows_of(front.cache, front.row[laid])
        before = 0 if cache is None else cache.get_seq_length()
        places = torch.arange(before + ids.shape[1], device=owner.device)
        padding = self._padding[owner]
        with self._beside(owner.tolist(), cache is None):
            if is_encoder_decoder(self._model):
                output = self._answered(owner, ids, cache, back)
            else:
                output = reader_of(self._model)(
                    input_ids=ids,
                    attention_mask=(places >= padding).long(),
                    position_ids=(places[before:] - padding).clamp_(min=0) + self._first_position,
                    past_key_values=cache,
                    use_cache=True,
                )
        # rows that only fill a slot are left behind: children are of real rows
        return output.last_hidden_state[back, -1], _rows_of(output.past_key_values, back)

    def _answered(self, owner: Tensor, ids: Tensor, cache: Any, back: Places) -> Any:
        """What a decoder says, its encoder having read the prompts; the first token of an answer follows its start."""
        real = (torch.arange(self._width, device=owner.device) >= self._padding[owner]).long()
        if cache is None:
            encoded = reader_of(self._model)(input_ids=ids, attention_mask=real).last_hidden_state
            self._encoded, ids = encoded[back], torch.full_like(ids[:, :1], start_of(self._model))
        else:
            encoded = self._encoded[owner]
        return self._model.get_submodule("decoder")(
            input_ids=ids,
            encoder_hidden_states=encoded,
            encoder_attention_mask=real,
            past_key_values=cache,
            use_cache=True,
        )

    def in_passes(self, front: _Front) -> Iterator[_Front]:
        """The rows of a front, as many together as one pass takes."""
        return (front.take(slice(start, start + ROWS)) for start in range(0, len(front.node), ROWS))

    def _in_slots(self, owner: Tensor) -> tuple[Places, Places]:
        """Rows slot after slot, as many in each, and where each row went; `owner` never falls."""
        if self._slots == 1:
            return slice(None), slice(None)
        slot = self._slot_of[owner]
        counts = torch.bincount(slot, minlength=self._slots)
        starts, most = counts.cumsum(0) - counts, int(counts.max())
        steps = torch.arange(most, device=owner.device)
        # a slot with fewer rows repeats one of its own, a slot with none takes anybody's
        last = (starts + (counts - 1).clamp(min=0)).clamp(max=len(owner) - 1)
        laid = torch.minimum(starts[:, None] + steps, last[:, None]).flatten()
        return laid, slot * most + torch.arange(len(owner), device=owner.device) - starts[slot]


def _rows_of(cache: Any, rows: Places) -> Any:
    """These rows of a cache, and the cache left as it is."""
    if hasattr(cache, "cross_attention_cache"):  # a decoder's own, and what it read of the encoder
        both = (_rows_of(one, rows) for one in (cache.self_attention_cache, cache.cross_attention_cache))
        return type(cache)(*both)
    taken = copy(cache)
    taken.layers = [copy(layer) for layer in cache.layers]
    taken.batch_select_indices(rows)
    return taken
