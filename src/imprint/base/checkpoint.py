"""Where a long training stands, kept on disk: a run that is killed goes on from there and ends with the same weights.

Kept are the weights in training, the optimiser's moments and step, and what was counted. Nothing else decides the rest:
the order of rows follows from a seed, the learning rate from the step, and nothing is dropped out. A checkpoint is
named by the fingerprint of all that makes the weights, so that another setting never continues it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imprint.data.atomic import write_bytes
from imprint.errors import StoreError
from imprint.storage import fetch, left_beside, remove

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

EVERY_SECONDS = 30.0
"""Work that a kill may cost, if a step does not take longer: more often would be writing instead of training."""


@dataclass
class Done:
    """What a training has done: steps, tokens read, seconds of work, and the loss of each step (nats per token)."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list)


class Checkpoint:
    """One file at `path`, written whole or not at all, with a step of training in it."""

    def __init__(self, path: Path) -> None:
        """The first writing is due `EVERY_SECONDS` from now."""
        self._path, self._kept = path, time.perf_counter()

    def keep_if_due(self, weights: Sequence[Tensor], optimiser: Optimizer, done: Done) -> None:
        """Replace the file, if the last writing is long enough ago."""
        if time.perf_counter() - self._kept < EVERY_SECONDS:
            return
        import torch
        from safetensors.torch import save

        tensors = {"losses": torch.stack(done.losses)}
        for number, weight in enumerate(weights):
            tensors[f"{number}/weight"] = weight.detach()
            tensors |= {f"{number}/{name}": moment for name, moment in optimiser.state[weight].items()}
        counted = {"steps": done.steps, "tokens": done.tokens, "seconds": done.seconds}
        content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(self._path, save(content, metadata={"done": json.dumps(counted)}))
        self._kept = time.perf_counter()

    def restore(self, weights: Sequence[Tensor], optimiser: Optimizer) -> Done:
        """Put weights and optimiser where they were, and say what was done; without a file, nothing was.

        `StoreError` where the file is of other weights.
        """
        if not fetch(self._path).is_file():
            return Done()
        import torch
        from safetensors import safe_open

        kept: dict[str, dict[str, Tensor]] = {}
        with safe_open(self._path, framework="pt") as file:
            counted = json.loads(file.metadata()["done"])
            for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                number, _, part = name.rpartition("/")
                kept.setdefault(number, {})[part] = file.get_tensor(name)
        losses = kept.pop("")["losses"].to(weights[0].device)
        self._require_fit({number: parts["weight"].shape for number, parts in kept.items()}, weights)
        for number, weight in enumerate(weights):
            parts = kept[str(number)]
            with torch.no_grad():
                weight.copy_(parts.pop("weight"))
            # AdamW counts its steps on the CPU and has its moments where the weight is
            moments = {name: value if name == "step" else value.to(weight.device) for name, value in parts.items()}
            optimiser.state[weight] = moments
        return Done(**counted, losses=list(losses))

    def remove(self) -> None:
        """The training is over and its outcome kept elsewhere."""
        for left in left_beside(self._path):
            left.unlink(missing_ok=True)
        remove(self._path)

    def _require_fit(self, kept: Mapping[str, Sequence[int]], weights: Sequence[Tensor]) -> None:
        if kept == {str(number): weight.shape for number, weight in enumerate(weights)}:
            return
        raise StoreError(
            f"the checkpoint {self._path} holds {len(kept)} weights, which are not the {len(weights)} in training here "
            "or have other shapes. Next: delete that file; the training then begins anew."
        )
