"""The benchmark: Imprint's fleet against stock PEFT, in one run on one machine.

    python benchmarks/bench.py [--users 64] [--quick] [--device cpu|cuda] [--model embedded|llama-1b|llama-7b]
                               [--only train,search,generate,scale]

It prints a table, with what was aimed at and how long each section took, and as its last line JSON. To add a section,
write its module and name it in `SECTIONS`. What the figures mean is said in the modules.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aims import aim_lines, aim_numbers

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched, and nothing asks whether it could be
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if TYPE_CHECKING:
    from machine import Rates
    from sections import Measured
    from setting import Options, Setting

SECTIONS = {"train": "training", "search": "searching", "generate": "generation", "scale": "scaling"}
"""Section to its module, whose `measure(Given) -> Measured` does the work."""
MODELS = ("embedded", "small", "llama-1b", "llama-7b", "tiny", "llama-toy")
"""The last two are for trying the benchmark out."""
STEP_TOKENS = (512, 4096)  # rows of the model's own products: one user's step, and a step of several


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sections asked for; print the table and the JSON line."""
    asked = _parser().parse_args(arguments)
    if asked.device == "cuda":
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # a Trainer would spread over all the cards it sees
    from machine import product_rates, timed
    from sections import Given, progress
    from setting import make_setting

    seconds: dict[str, float] = {}
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="imprint-bench-") as workspace:
        options = _options(asked, workspace)
        progress.print(f"setting: {options.users} users, base {options.model} on {options.device}")
        seconds["setting"], setting = timed(lambda: make_setting(options, options.users), options.device)
        rates = product_rates(options.device, _own_products(setting), seconds=0.05 if options.quick else 0.3)
        given = Given(options, setting, rates)
        for name in asked.only:
            measure = partial(import_module(SECTIONS[name]).measure, given)
            seconds[name], one = timed(measure, options.device)
            measured.append(one)
    about = _about(options, setting, rates)
    numbers = {key: value for one in measured for key, value in one.numbers.items()}
    _print_table(about, measured, aim_lines(numbers, options.device), seconds)
    aims = aim_numbers(numbers, options.device)
    print(json.dumps(_rounded({**about, **numbers, "aims": aims, "section_seconds": seconds})))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.py", description="Imprint's fleet against stock PEFT, in one run.")
    parser.add_argument("--users", type=_count, help="users the fleet trains (default: 64; a llama: 32)")
    parser.add_argument("--quick", action="store_true", help="fewer users for the opponents, rounds, trials and sizes")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--model", choices=MODELS, default="embedded")
    parser.add_argument("--only", type=_sections, default=list(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument(
        "--scale-users",
        type=_count,
        nargs="+",
        help="sizes of the section scale (default: 8 32 128 512 2048; a llama: 8 32 128; quick: 8 32)",
    )
    parser.add_argument("--search-users", type=_count, help="users with a study in lockstep (default: all; quick: 8)")
    parser.add_argument("--search-trials", type=_count, help="trials of a study (default: 16; a llama, or quick: 4)")
    parser.add_argument("--slots", type=_count, help="users in one pass of the fleet (default: that of conf/base)")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} given; give at least 1")
    return count


def _sections(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{','.join(unknown)}: no such section; there are {','.join(SECTIONS)}")
    return names


def _options(asked: argparse.Namespace, workspace: str) -> Options:
    import torch
    from setting import LLAMAS, Options

    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: torch sees no card on this machine; next: leave the option out.")
    llama = asked.model in LLAMAS
    users = asked.users or (32 if llama else 64)
    searched = min(8, users) if asked.quick else users
    if (asked.search_users or searched) > users:
        sys.exit(f"--search-users {asked.search_users}: there are {users} users; next: raise --users.")
    trials = 4 if llama or asked.quick else 16
    sizes = [8, 32] if asked.quick else [8, 32, 128] if llama else [8, 32, 128, 512, 2048]
    return Options(
        users=users,
        quick=asked.quick,
        device=asked.device,
        model=asked.model,
        search_users=asked.search_users or searched,
        search_trials=asked.search_trials or trials,
        scale_users=tuple(asked.scale_users or sizes),
        workspace=workspace,
        slots=asked.slots,
    )


def _own_products(setting: Setting) -> list[tuple[int, int, int]]:
    """The products of the base's feed-forward linears and of the vocabulary projection, as (m, k, n)."""
    shapes = {(site.in_features, site.out_features) for site in setting.base.sites if site.layer == 0}
    vocabulary, hidden = setting.base.model.get_output_embeddings().weight.shape  # type: ignore[operator]
    shapes.add((hidden, vocabulary))
    return [(tokens, *shape) for tokens in STEP_TOKENS for shape in sorted(shapes)]


def _about(options: Options, setting: Setting, rates: Rates) -> dict[str, Any]:
    import torch
    from machine import hardware, versions

    from imprint.memory.training import format_of

    base = setting.base.record
    return {
        "hardware": hardware(options.device),
        "device": options.device,
        "threads": torch.get_num_threads(),
        "product_gflops": {"fp32": round(rates.fp32.rate / 1e9, 1), "bf16": round(rates.bf16.rate / 1e9, 1)},
        "versions": versions(),
        "model": options.model,
        "parameters": base.parameters,
        "trained_in": format_of(setting.base, setting.memory),
        "layers": base.layers,
        "users": len(setting.users),
        "rows_per_user": len(setting.users[0].examples),
        "fixed_config": setting.fixed.model_dump(mode="json"),
        "searched_config": setting.searched.model_dump(mode="json"),
        "fleet": setting.fleet.model_dump(mode="json"),
        "quick": options.quick,
    }


def _print_table(
    about: dict[str, Any],
    measured: Sequence[Measured],
    aims: Sequence[tuple[str, str, str]],
    seconds: Mapping[str, float],
) -> None:
    from rich.console import Console
    from rich.table import Table

    rates = about["product_gflops"]
    machine = f"{about['hardware']}, {about['threads']} threads, fp32 {rates['fp32']} and bf16 {rates['bf16']} GFLOP/s"
    what = f"{about['users']} users of {about['rows_per_user']} rows; {about['model']}, {about['parameters']:,} weights"
    table = Table("what", "figure", "remark", title=f"{machine}\n{what}", title_justify="left")
    clocks = [(f"time of {name}", f"{taken:.0f} s", "") for name, taken in seconds.items()]
    for lines in (*(one.lines for one in measured), [(f"aim: {what}", *rest) for what, *rest in aims], clocks):
        for line in lines:
            table.add_row(*line)
        table.add_section()
    Console(width=160).print(table)


def _rounded(value: Any) -> Any:
    """Every float to four significant digits."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
