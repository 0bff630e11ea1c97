"""Train a method's shared weights once, keep them, and load them as a method.

Weights lie in a folder named by what made them: base, settings, seed, budget and the rows they learned from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from imprint.base.fit import TRAINING_VERSION, all_finite, fit
from imprint.base.histories import all_rows
from imprint.base.settings import FitSettings
from imprint.data.atomic import new_directory, read_manifest
from imprint.errors import IncompatibleBaseError, NotEnoughDataError, TrainingDivergedError
from imprint.personalizers.conditioned import Conditioned, Conditioner, Lesson, mean_loss_of
from imprint.personalizers.protocol import Histories
from imprint.provenance import code_version, fingerprint, fingerprint_of_rows, seed_for
from imprint.storage import address, at, fetch

WEIGHTS = "weights.safetensors"
OnStep = Callable[[int, int], None]


class Teachable(Conditioner, Protocol):
    """A conditioner that can be trained.

    `reading` names what it reads histories with: a frozen encoder, the precision of the base it was made on.
    """

    reading: str

    def prepare(self, histories: Histories, on_step: OnStep, budget: int | None = None) -> tuple[dict[str, Any], int]:
        """A first stage of training, before any lesson, within half of a budget.

        Returns what must be kept beside the weights, and what the stage has spent.
        """
        ...

    def restore(self, prepared: dict[str, Any]) -> None:
        """The shape that `prepare` gave, for weights to be loaded into."""
        ...

    def lessons(self, histories: Histories) -> Sequence[Lesson]:
        """What is learned from these histories, which the conditioner keeps already."""
        ...


class SharedRecord(BaseModel):
    """Which shared weights a run made; what crosses between stages instead of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    path: str
    fingerprint: str
    base_fingerprint: str
    teachers: int
    lessons: int
    training_tokens: int
    steps: int
    seconds: float
    final_loss: float
    trainable_parameters: int


def teach(
    conditioner: Teachable,
    method: str,
    histories: Histories,
    settings: BaseModel,
    training: FitSettings,
    seed: int,
    workspace: Path,
    on_step: OnStep = lambda step, steps: None,
) -> SharedRecord:
    """Train the weights of `method` on these histories and keep them under `workspace`, or find them there.

    `settings` are the method's own, part of the name. `NotEnoughDataError` without any interaction to learn from.
    """
    rows = [f"{row.record_id}\x1f{row.query}\x1f{row.response}\x1f{row.attributes}" for row in all_rows(histories)]
    if not rows:
        raise NotEnoughDataError(
            f"{method}: nobody's interactions were given to train its shared weights on; "
            "next: raise partition.pilot_users, or give a corpus with background users."
        )
    read_by = [conditioner.base.reading, conditioner.reading]
    made_of = [method, settings, training, seed, *read_by, fingerprint_of_rows(rows), TRAINING_VERSION]
    name = fingerprint(*made_of)
    directory = workspace / f"{method}-{name}"
    manifest = read_manifest(directory)
    if manifest is None:
        manifest = _train(conditioner, histories, training, seed_for(seed, method, "order"), directory, on_step)
    done = {key: manifest[key] for key in SharedRecord.model_fields if key in manifest}
    about = {"method": method, "path": address(directory), "fingerprint": name, "teachers": len(manifest["taught_by"])}
    return SharedRecord(**{**done, **about})


def within(training: FitSettings, budget: int) -> FitSettings:
    """The same training, ended after `budget` tokens at the latest."""
    return training.model_copy(update={"max_tokens": min(budget, training.max_tokens or budget)})


def taught(conditioner: Teachable, record: SharedRecord) -> Conditioned:
    """The method that a record names, its weights in `conditioner`. `IncompatibleBaseError` on any other base."""
    from safetensors.torch import load_model

    if record.base_fingerprint != conditioner.base.record.fingerprint:
        raise IncompatibleBaseError(record.base_fingerprint, conditioner.base.record.fingerprint)
    directory = fetch(at(record.path))
    manifest = read_manifest(directory) or {}
    conditioner.restore(manifest["prepared"])
    load_model(conditioner.module, directory / WEIGHTS)
    conditioner.module.eval().requires_grad_(False)
    return Conditioned(record.method, conditioner, frozenset(manifest["taught_by"]), directory.name)


def _train(
    conditioner: Teachable,
    histories: Histories,
    training: FitSettings,
    order_seed: int,
    directory: Path,
    on_step: OnStep,
) -> dict[str, Any]:
    from safetensors.torch import save_model

    started = time.perf_counter()
    spared = conditioner.keep(histories)
    prepared, spent = conditioner.prepare(histories, on_step, training.max_tokens)
    if training.max_tokens is not None:
        training = training.model_copy(update={"max_tokens": max(1, training.max_tokens - spent)})
    lessons = conditioner.lessons(histories)
    weights = [weight for weight in conditioner.module.parameters() if weight.requires_grad]
    fitted = fit(
        conditioner.module,
        weights,
        lessons,
        training,
        order_seed,
        on_step,
        loss_of=lambda some: mean_loss_of(conditioner, some),
    )
    if not all_finite(weights):
        raise TrainingDivergedError(
            f"{directory.name}: training diverged at learning_rate {training.learning_rate}; its weights are no "
            "numbers. Next: lower the learning_rate of the method's fit in conf/base/parameters_compare.yml, and run "
            "again."
        )
    manifest = {
        "base_fingerprint": conditioner.base.record.fingerprint,
        "lessons": len(lessons),
        "training_tokens": spent + fitted.tokens,
        "steps": fitted.steps,
        "seconds": round(time.perf_counter() - started + spared, 2),
        "final_loss": fitted.final_loss,
        "trainable_parameters": sum(weight.numel() for weight in weights),
        "prepared": prepared,
        "taught_by": sorted(histories),
        "code": code_version(),
    }
    with new_directory(directory, manifest) as temporary:
        save_model(conditioner.module, str(temporary / WEIGHTS))
    for user_id in histories:
        conditioner.past.forget(user_id)
    return manifest
