"""What a section of the benchmark is given and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from machine import Rates
from rich.console import Console
from setting import Options, Setting

progress = Console(stderr=True, highlight=False)
"""Where a run says what it is doing; standard output carries the table and the JSON alone."""


@dataclass(frozen=True, slots=True)
class Given:
    """A section's input: the command line, the setting for all users, and the machine's product rates."""

    options: Options
    setting: Setting
    rates: Rates


@dataclass(frozen=True, slots=True)
class Measured:
    """A section's result: lines of the table (what, figure, remark) and entries of the JSON."""

    lines: list[tuple[str, str, str]]
    numbers: dict[str, Any]
