"""Scale: seconds a user and peak memory as the number of users grows, each size in a process of its own.

Memories are trained as a run trains them: crew by crew, each crew's memories written to disk, and packed into a store
at the end. As a script, it measures one size: `python benchmarks/scaling.py '{"users": 8, …}'`, the options as JSON.

What a user more costs is their rows, which a run holds, by the two largest sizes before training; and what training
them adds, by the growth of the largest one's peak from half of its users to all of them. The latter is given in
memories too: who keeps all that was trained has a slope of at least 1. Peaks of two processes are not compared: by how
a heap happens to be cut they differ by hundreds of MiB (docs/log.md), which is what thousands of memories take.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from machine import release, timed
from sections import Given, Measured, progress
from setting import SEED, Options, Setting, User, make_setting, shards

from imprint.base.examples import KeptExamples, fingerprint_of_examples
from imprint.memory.inject import History, StoreRecord, train_memories
from imprint.provenance import peak_memory_mib

MIB = 2**20
STATUS = Path("/proc/self/status")


def measure(given: Given) -> Measured:
    """One line a size, and the slope."""
    release(given.options.device)  # the sizes' processes have the card to themselves
    sizes = [_in_a_process(given.options, users) for users in sorted(set(given.options.scale_users))]
    lines = []
    for one in sizes:
        memory = f"peak memory {one['peak_mib']:.0f} MiB, before training {one['before_mib']:.0f} MiB"
        if "peak_card_mib" in one:
            memory += f"; on the card {one['peak_card_mib']:.0f} MiB, before {one['before_card_mib']:.0f} MiB"
        lines.append((f"fleet, {one['users']} users", f"{one['seconds_per_user']:.3f} s a user", memory))
    numbers: dict[str, Any] = {"scale": sizes}
    if len(sizes) > 1:
        numbers |= slopes(*sizes[-2:])
        lines.append(("peak memory, a user more", *_about_slopes(numbers, given.setting.fleet.crew)))
    return Measured(lines, numbers)


def slopes(smaller: dict[str, Any], larger: dict[str, Any]) -> dict[str, float]:
    """What a user more adds to peak memory: bytes in all, of training alone, and that in memories."""
    later = larger["users"] - larger["users"] // 2
    memory = larger["memories_mib"] / larger["users"]
    kinds = ["", "card_"] if "peak_card_mib" in larger else [""]
    training = {kind: (larger[f"peak_{kind}mib"] - larger[f"half_{kind}mib"]) / later for kind in kinds}
    rows = {
        kind: (larger[f"before_{kind}mib"] - smaller[f"before_{kind}mib"]) / (larger["users"] - smaller["users"])
        for kind in kinds
    }
    found = {
        "scale_bytes_per_user": (rows[""] + training[""]) * MIB,
        "scale_training_bytes_per_user": training[""] * MIB,
        "scale_memories_kept": max(training.values()) / memory,
    }
    return found | ({"scale_card_bytes_per_user": (rows["card_"] + training["card_"]) * MIB} if "card_" in rows else {})


def _about_slopes(numbers: dict[str, Any], crew: int) -> tuple[str, str]:
    """The figure and the remark of the slope's line."""
    users = numbers["scale"][-1]["users"]
    training, kept = numbers["scale_training_bytes_per_user"] / 1024, numbers["scale_memories_kept"]
    remark = f"of it training {training:.0f} KiB, {kept:.2f} of one memory, from {users // 2} to {users} users"
    if users // 2 < crew:
        remark += f"; a crew is {crew} users, which {users // 2} do not fill"
    return f"{numbers['scale_bytes_per_user'] / 1024:.0f} KiB", remark


def train_once(setting: Setting) -> dict[str, Any]:
    """Train all users of a setting as a run does; what it took. Memory is the whole process's."""
    cuda, histories = setting.device == "cuda", _histories(setting.users)
    setting = replace(setting, users=())  # a run has no other copy of them either
    _train(setting, histories[:1])  # the libraries' own
    memory = {"before_mib": memory_now()}
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        memory["before_card_mib"] = torch.cuda.memory_allocated() / MIB

    def note(when: str) -> None:
        memory[f"{when}_mib"] = peak_memory_mib()
        if cuda:
            memory[f"{when}_card_mib"] = torch.cuda.max_memory_allocated() / MIB

    def half_way(done: int, users: int) -> None:
        if done == users // 2:
            note("half")

    note("half")  # of one user there is no half
    seconds, record = timed(lambda: _train(setting, histories, half_way), setting.device)
    note("peak")
    return {
        "users": len(histories),
        "seconds_per_user": seconds / len(histories),
        **memory,
        "memories_mib": record.bytes / MIB,
    }


def _histories(users: Sequence[User]) -> list[History]:
    """Users' rows as a run has them (`read_training`)."""
    packs, kept = shards(), [KeptExamples(user.user_id, user.examples) for user in users]
    return [
        History(user.user_id, place % packs, fingerprint_of_examples(rows), rows)
        for place, (user, rows) in enumerate(zip(users, kept, strict=True))
    ]


def _train(
    setting: Setting, histories: Sequence[History], on_user: Callable[[int, int], None] = lambda done, users: None
) -> StoreRecord:
    """Every user's memory, by crews, into a store that is thrown away."""
    configs = {one.user_id: setting.fixed for one in histories}
    with TemporaryDirectory(prefix="imprint-bench-store-") as folder:
        return train_memories(setting.base, histories, configs, SEED, setting.memory, Path(folder), {}, on_user)


def _in_a_process(options: Options, users: int) -> dict[str, Any]:
    progress.print(f"scale: {users} users, in a process of their own")
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(asdict(replace(options, users=users)))]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def memory_now() -> float:
    """MiB of memory in use, and from here on `peak_memory_mib` counts anew where the system lets it."""
    if not STATUS.exists():
        return peak_memory_mib()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    options = Options(**{**given, "scale_users": tuple(given["scale_users"])})
    print(json.dumps(train_once(make_setting(options, options.users))))
