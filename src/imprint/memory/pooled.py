"""The pooled stage: one LoRA for all training users, merged into the base the memories are trained on.

It is a memory like any other, whose user is everybody; personal memories on top of it beat memories on the raw base,
and as a row of every table it answers "would one fine-tuned model have done?".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from imprint.base.checkpoint import Checkpoint
from imprint.base.examples import Interaction
from imprint.base.fit import TRAINING_VERSION
from imprint.base.load import BaseModelInUse, BaseRecord, in_full, keep, recorded
from imprint.base.settings import PooledSettings
from imprint.data.atomic import read_manifest
from imprint.errors import TrainingDivergedError
from imprint.memory.trainer import train_everybody
from imprint.memory.weights import remembering
from imprint.provenance import fingerprint, fingerprint_of_rows


def pool(
    base: BaseModelInUse,
    rows: Sequence[Interaction],
    settings: PooledSettings,
    seed: int,
    workspace: Path,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> BaseRecord:
    """The record of the pooled model; the base's own record where the stage is switched off.

    A killed training goes on from its checkpoint in `workspace`, and ends with the same weights.
    """
    if not settings.enabled:
        return base.record
    texts = fingerprint_of_rows(f"{row.record_id}\x1f{row.query}\x1f{row.response}" for row in rows)
    name = f"pooled-{fingerprint(settings, seed, base.reading, texts, TRAINING_VERSION)}"
    directory, checkpoint = workspace / name, Checkpoint(workspace / f"{name}.checkpoint")
    manifest = read_manifest(directory)
    if manifest is None:
        trained = train_everybody(base, base.encoder.examples(rows), settings, seed, on_step, checkpoint)
        if not trained.memory.finite:
            checkpoint.remove()
            raise TrainingDivergedError(
                f"pooled.fit.learning_rate: {settings.fit.learning_rate} given; training diverged, its weights are no "
                "numbers. Next: lower it, and run again."
            )
        whole = in_full(base)
        with remembering(whole, trained.memory):
            done = {
                "rows": len(rows),
                "training_tokens": trained.fitted[0].tokens,
                "steps": trained.fitted[0].steps,
                "seconds": round(trained.seconds, 1),
                "final_loss": trained.fitted[0].final_loss,
                "base_fingerprint": base.record.fingerprint,
                "base_dtype": base.dtype,
            }
            manifest = keep(whole.model, base.encoder.tokenizer, directory, {"training": done, "pooled": True})
    checkpoint.remove()
    return recorded(manifest, directory)
