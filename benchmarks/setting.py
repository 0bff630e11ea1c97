"""What is measured: users with their rows, a base model, the two configs, and the settings of a run.

The users are those of the embedded default (`conf/base`): the fabricated corpus, read by its reader and split as the
default run splits it. The base is the embedded one, trained briefly on background users, or a randomly initialised
LLaMA: speed needs no good weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import yaml  # type: ignore[import-untyped]

from imprint.base.embedded import train_tokenizer
from imprint.base.examples import Encoder, Example, Interaction
from imprint.base.load import BaseModelInUse, BaseRecord, load_base, prepare_base
from imprint.base.settings import BaseSettings
from imprint.corpora import CorpusSettings, open_corpus
from imprint.data.partition import PartitionSettings, split_sizes
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import FleetSettings, MemorySettings
from imprint.provenance import seed_for
from imprint.search.settings import SearchSettings

CONF = Path(__file__).resolve().parent.parent / "conf" / "base"
SEED = 7
ROW_TOKENS, VOCABULARY = 64, 32_000  # of the randomly initialised models

EMBEDDED = {"embedded": ("auto", 300_000), "small": ("small", 300_000), "tiny": ("tiny", 100_000)}
"""Model choice to shape and training tokens of an embedded base. `auto`: the shape that the default run takes."""
TRIAL, TRIAL_INTERACTIONS, TRIAL_BACKGROUND = ("tiny", "llama-toy"), 24, 40
"""Models for trying the benchmark out; their users' histories are this short, and so few are background users."""

LLAMAS: dict[str, dict[str, int]] = {
    "llama-1b": {"hidden": 2048, "feed_forward": 8192, "layers": 16, "heads": 32, "kv_heads": 8},
    "llama-7b": {"hidden": 4096, "feed_forward": 11_008, "layers": 32, "heads": 32, "kv_heads": 32},
    "llama-toy": {"hidden": 64, "feed_forward": 192, "layers": 2, "heads": 4, "kv_heads": 4},
}
"""Shapes of randomly initialised models."""


@dataclass(frozen=True, slots=True)
class Options:
    """One run of the benchmark, as the command line has it."""

    users: int
    quick: bool
    device: str
    model: str
    search_users: int
    search_trials: int
    scale_users: tuple[int, ...]
    workspace: str
    slots: int | None = None


class User(NamedTuple):
    """One user: training and validation rows as the base reads them, and queries of their test split."""

    user_id: str
    examples: list[Example]
    validation: list[Example]
    queries: list[str]


@dataclass(frozen=True, slots=True)
class Setting:
    """What every section measures on. `pilots` are further users; `searched` is a config of the kind a search picks."""

    base: BaseModelInUse
    users: Sequence[User]
    pilots: Sequence[User]
    memory: MemorySettings
    search: SearchSettings
    searched: MemoryConfig
    device: str

    @property
    def fixed(self) -> MemoryConfig:
        """The config of `fixed_memory`: rank 8 at every feed-forward linear."""
        return self.memory.fixed_config

    @property
    def fleet(self) -> FleetSettings:
        """How many users a run trains at once."""
        return self.memory.fleet

    @property
    def batch_rows(self) -> int:
        """Rows of one user's step."""
        return self.memory.batch_rows


def make_setting(options: Options, users: int) -> Setting:
    """The setting for so many users; the base is trained once a workspace."""
    base = _llama(options) if options.model in LLAMAS else _embedded(options)
    memory = MemorySettings(**_memory(options))
    trials = options.search_trials
    # trials are scored as they are trained: what a strength finds is no matter of speed, and stock PEFT knows of none
    space = {**_conf("search")["space"], "strengths": [1.0]}
    search = SearchSettings(
        **{**_conf("search"), "space": space, "scope": "user", "trials": trials, "own_trials": trials}
    )
    # two groups of layers: the same as ranks 0, 0, 8, 8, for a base of any even number of layers
    searched = memory.fixed_config.model_copy(update={"ranks": (0, 8), "targets": ("up", "down")})
    read = partial(_random_user if options.model in LLAMAS else _user, base)
    shortest = TRIAL_INTERACTIONS if options.model in TRIAL else None
    everybody = _fabricated(users + _partition().pilot_users, "interactions")
    people = [read(rows[:shortest]) for rows in everybody]
    return Setting(base, people[:users], people[users:], memory, search, searched, options.device)


@cache
def _conf(name: str) -> Mapping[str, Any]:
    """A top-level entry of the default run's parameters."""
    for path in sorted(CONF.glob("parameters*.yml")):
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if name in found:
            return MappingProxyType(found[name])
    raise KeyError(f"{name}: in none of conf/base/parameters*.yml; next: name an entry that is there.")


def _fabricated(users: int, length: str) -> list[list[Interaction]]:
    """Histories of `users` fabricated users; `length` is the setting that says how long they are in the default run."""
    corpus = _conf("corpus")
    interactions = corpus["fabricate"][length]
    seed = seed_for(SEED, length) % 2**31  # background users are others than those with a memory
    settings = {"users": users, "interactions": interactions, "background_users": 0, "seed": seed}
    histories: dict[str, list[Interaction]] = {}
    for batch in open_corpus(CorpusSettings(**{**corpus, "fabricate": settings})).batches():
        for row in batch.to_pylist():
            one = Interaction(row["user"], f"{row['user']}-{row['source_id']}", row["query"], row["response"])
            histories.setdefault(one.user_id, []).append(one)
    return list(histories.values())


def _memory(options: Options) -> dict[str, Any]:
    """A run's settings of memories; with other slots where the command line gives them."""
    found = dict(_conf("memory"))
    return found if options.slots is None else {**found, "fleet": {**found["fleet"], "slots": options.slots}}


def shards() -> int:
    """How many packs a run's memories go to."""
    return _partition().shards


def _partition() -> PartitionSettings:
    return PartitionSettings(**_conf("partition"))


def _user(base: BaseModelInUse, rows: Sequence[Interaction]) -> User:
    return _split(base.encoder.examples(rows), rows)


def _random_user(base: BaseModelInUse, rows: Sequence[Interaction]) -> User:
    """As many rows as the user has, but of 64 random tokens each, one half of them the response."""
    draw = Random(rows[0].user_id)
    tokens = [tuple(draw.choices(range(3, VOCABULARY), k=ROW_TOKENS)) for _ in rows]
    examples = [
        Example(row.user_id, row.record_id, ids, ROW_TOKENS // 2, False) for row, ids in zip(rows, tokens, strict=True)
    ]
    return _split(examples, rows)


def _split(examples: list[Example], rows: Sequence[Interaction]) -> User:
    """The user of these rows, split by time as the default run splits a history."""
    train, validation, _ = split_sizes(len(rows), "reported", _partition())
    test = train + validation
    return User(rows[0].user_id, examples[:train], examples[train:test], [row.query for row in rows[test:]])


def _embedded(options: Options) -> BaseModelInUse:
    size, tokens = EMBEDDED[options.model]
    conf = _conf("base")
    fit = {**conf["embedded"]["fit"], "max_tokens": tokens}
    embedded = {**conf["embedded"], "size": size, "fit": fit}
    # on a CPU as a run has it: kept in fp32, which is what the opponents see, whatever the fleet's products are in
    dtype = conf["dtype"] if options.device == "cpu" else "float32"
    settings = BaseSettings(**{**conf, "device": options.device, "dtype": dtype, "embedded": embedded})
    users = TRIAL_BACKGROUND if options.model in TRIAL else _conf("corpus")["fabricate"]["background_users"]
    background = _fabricated(users, "background_interactions")
    rows = [row for history in background for row in history]
    return load_base(prepare_base(rows, settings, SEED, Path(options.workspace)), settings)


def _llama(options: Options) -> BaseModelInUse:
    """A LLaMA of random weights, made on the device: bf16 on a card, fp32 on a CPU."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LLAMAS[options.model]
    texts = [row.query for rows in _fabricated(8, "interactions") for row in rows]
    tokenizer = train_tokenizer(texts, 512)
    tokenizer.add_tokens([f"<{number}>" for number in range(len(tokenizer), VOCABULARY)])
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape["hidden"],
        intermediate_size=shape["feed_forward"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.bfloat16 if options.device == "cuda" else torch.float32,
    )
    torch.manual_seed(SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(config.dtype)
    try:
        with torch.device(options.device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    size = sum(weight.numel() for weight in model.parameters())
    record = BaseRecord(
        path=options.model, fingerprint=options.model, family="llama", layers=shape["layers"], parameters=size
    )
    return BaseModelInUse(model, Encoder(tokenizer, 48, 48), record)
