"""Squares of numbers, shard by shard."""

import time
from pathlib import Path


def write_shards(rows, shards):
    names = [f"s{number}" for number in range(shards)]
    return {name: list(range(start, rows, shards)) for start, name in enumerate(names)}, names


def square(shards, names, shard, fault):
    """Every shard, or the one that a task was given."""
    return {name: _squares(name, shards[name](), fault) for name in names if shard in (None, name)}


def _squares(name, numbers, fault):
    if fault["folder"]:
        attempts = Path(fault["folder"], f"{name}.attempts")
        attempts.parent.mkdir(parents=True, exist_ok=True)
        done = len(attempts.read_text()) if attempts.exists() else 0
        attempts.write_text("x" * (done + 1))
        if name == fault["shard"] and done < fault["times"]:
            raise ValueError(f"shard {name} is cursed")
        time.sleep(fault["seconds"])
    return {"shard": name, "squares": [number**2 for number in numbers]}


def total(squares, names):
    by_shard = {name: sum(squares[name]()["squares"]) for name in names}
    return {"total": sum(by_shard.values()), "by_shard": by_shard, "comment": "exact", "hidden": 1}


def page(metrics):
    return f"<h1>{metrics['total']}</h1>"
