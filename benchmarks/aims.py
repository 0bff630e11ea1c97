"""What the benchmark aims at, and whether a run reached it. The figures are those set before anything was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Aim(NamedTuple):
    """One aim: the figure's key in the JSON, in words, and its bound: at least, or at most; None where none was set."""

    key: str
    what: str
    bound: float | None
    at_least: bool = True

    @property
    def text(self) -> str:
        """The bound in words."""
        if self.bound is None:
            return "no aim was set"
        return f"at {'least' if self.at_least else 'most'} {self.bound:g}"

    def held(self, figure: float) -> bool | None:
        """Whether `figure` reaches the bound; None where there is none. No number (NaN) reaches nothing."""
        if self.bound is None:
            return None
        return figure >= self.bound if self.at_least else figure <= self.bound


LOSS_GAP = Aim("loss_gap", "gap in final loss", 0.01, at_least=False)
USER_SEARCH = Aim("user_over_population", "a user's search, a memory, against the population's", 2, at_least=False)
TRIALS = (
    Aim("trials_ratio", "search in lockstep against one study after another, PEFT + Trainer", None),
    Aim("trials_ratio_same_engine", "search in lockstep against one study after another, fleet", None),
)
FLAT = Aim("scale_memories_kept", "peak memory that training adds, a user more, in memories", 0.25, at_least=False)
"""Flat. A heap goes on growing by some megabytes for a while, so the bound cannot be 0."""

AIMS: Mapping[str, tuple[Aim, ...]] = {
    "cpu": (  # two cores, the embedded base, 64 users
        Aim("train_ratio_vs_trainer", "training against PEFT + Trainer, rank 8", 6),
        Aim("train_ratio_vs_loop", "training against the best PEFT loop, rank 8", 3),
        Aim("searched_ratio_vs_trainer", "training against PEFT + Trainer, as searched", 10),
        LOSS_GAP,
        Aim("flops_share", "share of the product rate, rank 8", 0.35),
        *TRIALS,
        USER_SEARCH,
        Aim("generate_ratio_vs_peft", "generation against PEFT's mixed batch", 4),
        Aim("generate_ratio_vs_one", "generation against one user at a time", 8),
        FLAT,
    ),
    "cuda": (  # one card, a randomly initialised LLaMA, 32 users; PLoRA's best figure for packed LoRA tuning is 12.8
        Aim("train_ratio_vs_trainer", "training against PEFT + Trainer, rank 8", 12.8),
        Aim("train_ratio_vs_loop", "training against the best PEFT loop, rank 8", None),
        LOSS_GAP,
        Aim("flops_share", "share of the product rate, rank 8", None),
        *TRIALS,
        USER_SEARCH,
        Aim("generate_ratio_vs_peft", "generation against PEFT's mixed batch", None),
        FLAT,
    ),
}
"""Aims by device, in the order of the table."""

VERDICT = {True: "held", False: "missed", None: ""}


def measured_aims(numbers: Mapping[str, Any], device: str) -> list[tuple[Aim, float]]:
    """The aims of this device whose figures were measured, with the figures."""
    return [(aim, numbers[aim.key]) for aim in AIMS[device] if aim.key in numbers]


def aim_lines(numbers: Mapping[str, Any], device: str) -> list[tuple[str, str, str]]:
    """A line of the table for each aim: what, figure, and the aim with the verdict."""
    lines = []
    for aim, figure in measured_aims(numbers, device):
        verdict = VERDICT[aim.held(figure)]
        lines.append((aim.what, f"{figure:.4g}", f"{aim.text}: {verdict}" if verdict else aim.text))
    return lines


def aim_numbers(numbers: Mapping[str, Any], device: str) -> dict[str, dict[str, Any]]:
    """The same for the JSON, by key."""
    return {aim.key: {"aim": aim.text, "held": aim.held(figure)} for aim, figure in measured_aims(numbers, device)}
