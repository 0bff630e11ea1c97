"""Generation: the fleet against PEFT's mixed batch (`adapter_names`) and against one user at a time.

Every opponent has all adapters loaded before the clock starts, in the base's own dtype, as the fleet has them; a user's
queries are one batch, padded on the left. The mixed batch holds all rows at once, which is where PEFT is fastest: it
runs every adapter once a linear and step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any

import torch
from machine import timed
from opponents import peft_model
from sections import Given, Measured, progress
from setting import SEED, Setting

from imprint.memory.fleet import Fleet
from imprint.memory.peft_format import join_episodes, peft_config
from imprint.memory.serve import Server
from imprint.memory.trainee import Job
from imprint.memory.weights import Memory

NEW_TOKENS = 32
ONE, MIXED, FLEET = "one user at a time", "PEFT mixed batch", "fleet"
Asked = Sequence[tuple[Memory, str]]


def measure(given: Given) -> Measured:
    """Seconds for all texts, the two ratios, and how many texts agree."""
    setting, quick = given.setting, given.options.quick
    users = setting.users[:32]
    progress.print(f"generation: {len(users)} memories are trained first")
    jobs = [Job(user.user_id, user.examples, setting.fixed.model_copy(update={"epochs": 2})) for user in users]
    memories = [one.memory for one in Fleet(setting.base, setting.fleet, SEED, setting.batch_rows).train(jobs)]
    queries = 2 if quick else 4
    asked = [(memory, query) for memory, user in zip(memories, users, strict=True) for query in user.queries[:queries]]
    seconds, texts = _in_turns(setting, memories, asked, rounds=1 if quick else 3)
    took = {name: median(values) for name, values in seconds.items()}
    agree = {
        name: sum(a == b for a, b in zip(texts[name], texts[ONE], strict=True)) / len(asked) for name in (MIXED, FLEET)
    }
    lengths = [len(setting.base.encoder.tokenizer(text).input_ids) for text in texts[ONE]]
    numbers = {
        "generate_ratio_vs_peft": took[MIXED] / took[FLEET],
        "generate_ratio_vs_one": took[ONE] / took[FLEET],
        "generate_equal_texts": agree[FLEET],
        "generate_equal_texts_peft": agree[MIXED],
        "generate_seconds": took,
        "generate_rounds": seconds,
        "generate_texts": len(asked),
        "generate_tokens_per_text": fmean(lengths),
    }
    remarks = {name: f"fleet is {took[name] / took[FLEET]:.2f} times as fast" if name != FLEET else "" for name in took}
    lines = [(f"generation: {name}", f"{took[name]:.2f} s for {len(asked)} texts", remarks[name]) for name in took]
    equal = f"{agree[FLEET]:.0%}", f"PEFT's mixed batch: {agree[MIXED]:.0%}; mean length {fmean(lengths):.0f} tokens"
    return Measured([*lines, (f"texts equal to {ONE}", *equal)], numbers)


def _in_turns(
    setting: Setting, memories: Sequence[Memory], asked: Asked, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Seconds of each round and the texts, by contender; PEFT's adapters are in place for PEFT's turns alone."""
    seconds: dict[str, list[float]] = {ONE: [], MIXED: [], FLEET: []}
    texts: dict[str, list[str]] = {}
    for number in range(rounds + 1):  # round 0 is not timed
        progress.print(f"generation: round {number} of {rounds}" if number else "generation: warming up")
        model = _with_adapters(setting, memories)
        try:
            ways: dict[str, Callable[[], list[str]]] = {
                ONE: lambda model=model: _one_at_a_time(setting, model, asked),  # type: ignore[misc]
                MIXED: lambda model=model: _mixed(setting, model, asked),  # type: ignore[misc]
            }
            for name, way in ways.items():
                taken, texts[name] = timed(way, setting.device)
                seconds[name] += [taken] if number else []
        finally:
            model.unload()
            setting.base.model.requires_grad_(False)
        taken, texts[FLEET] = timed(lambda: _by_fleet(setting, asked), setting.device)
        seconds[FLEET] += [taken] if number else []
    return seconds, texts


def _with_adapters(setting: Setting, memories: Sequence[Memory]) -> Any:
    """The base with one adapter a memory, named by the user."""
    base, model = setting.base, None
    for memory in memories:
        if model is None:
            model = peft_model(base, memory.config, memory.user_id, in_fp32=False)
        else:
            model.add_adapter(memory.user_id, peft_config(memory.config, base.sites), autocast_adapter_dtype=False)
        for name, (a, b) in join_episodes(memory).items():
            layer: Any = base.model.get_submodule(name)
            with torch.no_grad():
                layer.lora_A[memory.user_id].weight.copy_(a)
                layer.lora_B[memory.user_id].weight.copy_(b)
    return model.eval()  # type: ignore[union-attr]


def _one_at_a_time(setting: Setting, model: Any, asked: Asked) -> list[str]:
    by_user: dict[str, list[str]] = {}
    for memory, query in asked:
        by_user.setdefault(memory.user_id, []).append(query)
    texts = []
    for user_id, queries in by_user.items():
        model.set_adapter(user_id)
        texts += _generate(setting, model, queries)
    return texts


def _mixed(setting: Setting, model: Any, asked: Asked) -> list[str]:
    names = [memory.user_id for memory, _ in asked]
    return _generate(setting, model, [query for _, query in asked], adapter_names=names)


def _by_fleet(setting: Setting, asked: Asked) -> list[str]:
    memories, queries = zip(*asked, strict=True)
    return Server(setting.base, setting.fleet.scoring_slots).respond(memories, queries, NEW_TOKENS)


def _generate(setting: Setting, model: Any, queries: Sequence[str], **extra: Any) -> list[str]:
    """Greedy responses of one padded batch."""
    encoder = setting.base.encoder
    tokenizer = encoder.tokenizer
    prompts = [encoder.prompt(query)[0] for query in queries]
    width = max(map(len, prompts))
    pad = int(tokenizer.pad_token_id)  # type: ignore[arg-type]
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=setting.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=setting.device)
    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            num_beams=1,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
            **extra,
        )
    return [text.strip() for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]
