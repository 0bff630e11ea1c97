"""Scale: seconds a user and peak memory of the fleet as the number of users grows, each size in a process of its own.

As a script, it measures one size: `python benchmarks/scaling.py '{"users": 8, …}'`, the options as JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from machine import timed
from sections import Given, Measured, progress
from setting import SEED, Options, make_setting

from imprint.memory.fleet import Fleet
from imprint.memory.trainee import Job

MIB = 2**20


def measure(given: Given) -> Measured:
    """One line a size."""
    sizes = [_in_a_process(given.options, users) for users in given.options.scale_users]
    lines = []
    for one in sizes:
        memory = f"peak memory {one['peak_rss_mib']:.0f} MiB, before training {one['rss_before_mib']:.0f} MiB"
        if "peak_card_mib" in one:
            memory += f", on the card {one['peak_card_mib']:.0f} MiB"
        lines.append((f"fleet, {one['users']} users", f"{one['seconds_per_user']:.3f} s a user", memory))
    return Measured(lines, {"scale": sizes})


def train_once(options: Options) -> dict[str, Any]:
    """Train all users of one size; what it took. Memory is the whole process's, at its highest."""
    setting = make_setting(options, options.users)
    fleet = Fleet(setting.base, setting.fleet, SEED, setting.batch_rows)
    fleet.train([Job(user.user_id, user.examples, setting.fixed) for user in setting.users[:1]])  # the libraries' own
    before = _peak_rss()
    jobs = [Job(user.user_id, user.examples, setting.fixed) for user in setting.users]
    seconds, trained = timed(lambda: fleet.train(jobs), options.device)
    found = {
        "users": options.users,
        "seconds_per_user": seconds / len(jobs),
        "rss_before_mib": before,
        "peak_rss_mib": _peak_rss(),
        "memories_mib": sum(one.memory.bytes for one in trained) / MIB,
    }
    if options.device == "cuda":
        found["peak_card_mib"] = torch.cuda.max_memory_allocated() / MIB
    return found


def _in_a_process(options: Options, users: int) -> dict[str, Any]:
    progress.print(f"scale: {users} users, in a process of their own")
    command = [sys.executable, str(Path(__file__).resolve()), json.dumps(asdict(replace(options, users=users)))]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(run.stdout.splitlines()[-1]))


def _peak_rss() -> float:
    kibibytes = sys.platform != "darwin"  # Linux counts in KiB, macOS in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if kibibytes else 1) / MIB


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(train_once(Options(**{**given, "scale_users": tuple(given["scale_users"])}))))
