"""Capacity: shards, cards, hours, storage and cost for more users than were ever tried.

    python benchmarks/capacity.py                                prints the tables of docs/scale.md
    python benchmarks/capacity.py --write docs/scale.md          puts them there
    python benchmarks/capacity.py --measured rows_a_second=5000  with another figure than population.py has

The figures and the arithmetic are in population.py, the simulated cluster in schedule.py. Standard library, seeded.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from population import (
    ASSUMED,
    CASES,
    HOUR,
    LLAMA_1B,
    MEASURED,
    SCALES,
    assumed,
    card_seconds,
    core_hours,
    memory_bytes,
    most_shards,
    own_search,
    read_hours,
    shards_for,
    simulated,
    table_bytes,
    work,
)
from schedule import Loop

RUNS = (
    (SCALES[0], 4, 1),
    (SCALES[0], 8, 1),
    (SCALES[1], 16, 1),
    (SCALES[1], 64, 1),
    (SCALES[1], 64, 4),
    (SCALES[2], 64, 16),
    (SCALES[2], 64, 64),
)
"""Users, cards of a run at a time, and runs at a time, that are simulated."""
CUTS = (64, 256, 1024, 4096, 16_384)
"""Shards that a million users are cut into, on `CUT_PLACES` cards."""
CUT_PLACES = 64


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a page whose tables are replaced")
    parser.add_argument("--measured", action="append", default=[], metavar="NAME=VALUE", help=", ".join(MEASURED))
    asked = parser.parse_args(arguments)
    for name, _, value in (one.partition("=") for one in asked.measured):
        if name not in MEASURED:
            parser.error(f"--measured {name}: there is no such figure; allowed are {', '.join(MEASURED)}")
        MEASURED[name] = MEASURED[name]._replace(value=float(value), page="--measured")
    if asked.write:
        asked.write.write_text(with_tables(asked.write.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name, make in TABLES.items():
        print(f"{name}\n\n{make()}\n")


def with_tables(page: str) -> str:
    """The page with each table between its marks as it is now. `ValueError` for a table without a place."""
    for name, make in TABLES.items():
        begins, ends = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
        parts = re.split(f"({re.escape(begins)}|{re.escape(ends)})", page)
        if parts[1::2] != [begins, ends]:
            raise ValueError(f"the page needs {begins} and {ends} once. Next: add them where the table belongs")
        page = f"{parts[0]}{begins}\n{make()}\n{ends}{parts[4]}"
    return page


def measured_table() -> str:
    """What was measured."""
    rows = [[f"{one.value:,g}", one.what, f"[{one.page}](results/{one.page})"] for one in MEASURED.values()]
    return table(["figure", "of what", "where"], rows)


def assumed_table() -> str:
    """What is assumed."""
    rows = [[one.what, *(number(assumed(name, case)) for case in CASES), one.why] for name, one in ASSUMED.items()]
    return table(["assumption", *CASES, "why these"], rows)


def user_table() -> str:
    """One user: time and bytes."""
    cores = MEASURED["seconds_a_user"].value
    rows = [["embedded, two cores: measured", cores, MEASURED["bytes_a_user"].value]]
    rows += [[f"LLaMA 1B, a card: {case}", card_seconds(case), memory_bytes(LLAMA_1B)] for case in CASES]
    lines = [[base, number(seconds), number(HOUR / seconds), size(kept)] for base, seconds, kept in rows]
    return table(["base", "seconds a training", "trainings an hour", "a memory"], lines)


def sizes_table() -> str:
    """What lies where, and how it is cut."""
    rows = []
    for users in SCALES:
        shards, runs = shards_for(users)
        tables, memories = table_bytes(users), users * memory_bytes(LLAMA_1B)
        month = (tables + memories) / 1e9 * assumed("gb_price", "likely")
        cut = [f"{shards:,}", number(users / shards), size(memories / shards), f"{runs:,}"]
        rows.append([f"{users:,}", size(tables), size(memories), dollars(month), *cut])
    head = ["users", "tables", "memories", "kept for a month", "shards", "users a shard", "a shard's pack", "runs"]
    return table(head, rows)


def hours_table() -> str:
    """Work and money, without what a schedule loses."""
    rows = []
    for users in SCALES:
        for what, trainings in work().items():
            hours = {case: users * card_seconds(case, trainings) / HOUR for case in CASES}
            cells = [f"{number(hours[case])} h, {dollars(hours[case] * assumed('card_price', case))}" for case in CASES]
            rows.append([f"{users:,}", f"{what}, card hours", *cells])
        for what, hours_of_it in (
            (ON_CORES, core_hours(users)),
            (READ, read_hours(users)),
        ):
            cells = [f"{number(hours_of_it)} h, {dollars(hours_of_it * assumed('core_price', case))}" for case in CASES]
            rows.append([f"{users:,}", what, *cells])
    return table(["users", "work", *CASES], rows)


ON_CORES = "every user's own search, and the memory, on the embedded base, core hours"
READ = "ingest, validate and partition, hours of one thread"


def schedule_table() -> str:
    """Simulated runs."""
    rows = []
    for users, places, at_once in RUNS:
        shards, runs = shards_for(users)
        for case in CASES:
            loops = simulated(users / runs, shards // runs, case, places)
            hours = sum(loop.seconds for loop in loops) / HOUR
            paid = sum(loop.pod_seconds for loop in loops) / HOUR * runs * assumed("card_price", case)
            again = sum(loop.retries for loop in loops) * runs
            days = hours * math.ceil(runs / at_once) / 24
            first = [f"{users:,}", f"{places} x {at_once}", case, number(hours), number(days)]
            lost = sum(loop.failed for loop in loops) * runs
            rows.append([*first, f"{pods(loops) * runs:,}", f"{again:,}", f"{lost:,}", useful(loops), dollars(paid)])
    head = [
        "users",
        "cards x runs at once",
        "case",
        "hours a run",
        "days",
        "pods",
        "of them again",
        "given up",
        "useful",
        "cost",
    ]
    return table(head, rows)


def shards_table() -> str:
    """A million users, cut into fewer or more shards."""
    rows = []
    for shards in CUTS:
        loops = simulated(SCALES[1], shards, "likely", CUT_PLACES)
        search = SCALES[1] / shards * card_seconds("likely", own_search()) / HOUR
        hours = sum(loop.seconds for loop in loops) / HOUR
        fits = "yes" if shards <= most_shards() else "no"
        cut = [f"{shards:,}", number(SCALES[1] / shards), number(search), number(hours)]
        rows.append([*cut, f"{pods(loops):,}", useful(loops), fits])
    head = ["shards", "users a shard", "hours of search a shard", "hours a run", "pods", "useful", "fits into one run"]
    return table(head, rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "measured": measured_table,
    "assumed": assumed_table,
    "user": user_table,
    "sizes": sizes_table,
    "hours": hours_table,
    "schedule": schedule_table,
    "shards": shards_table,
}
"""A table's name between its marks in the page, and what makes it."""


def pods(loops: Sequence[Loop]) -> int:
    """Pods that were started."""
    return sum(len(loop.pods) for loop in loops)


def useful(loops: Sequence[Loop]) -> str:
    """The share of the cards' time that went into work that stays."""
    seconds = sum(loop.seconds for loop in loops)
    return f"{sum(loop.useful_share * loop.seconds for loop in loops) / seconds:.0%}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Two significant digits, or three from 100 on, for people."""
    if value == 0:
        return "0"
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    digits = 3 if abs(value) >= 100 else 2
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:g}"


def size(value: float) -> str:
    """Bytes in the unit that keeps the number short."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    step = min(int(math.log10(max(value, 1))) // 3, len(units) - 1)
    return f"{number(value / 1000**step)} {units[step]}"


def dollars(value: float) -> str:
    """An amount of money."""
    return f"{number(value)} $"


if __name__ == "__main__":
    main()
