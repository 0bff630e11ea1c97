"""The one-user trainer, on plain PEFT: the oracle every faster trainer is held against.

A user's rows come in as one list and the memory goes out as one value; nothing outlives the call, so nothing of one
user can reach the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from imprint.base.checkpoint import Checkpoint
from imprint.base.examples import Example, collate, fingerprint_of_examples
from imprint.base.fit import Fitted, fit, packed, padded
from imprint.base.load import BaseModelInUse
from imprint.base.loss import nats_per_row
from imprint.base.settings import FitSettings, PooledSettings
from imprint.base.sites import FEED_FORWARD
from imprint.errors import MemoryConfigError
from imprint.memory.config import MemoryConfig
from imprint.memory.peft_format import peft_config
from imprint.memory.settings import EarlyStopping
from imprint.memory.stopping import Watch, watch_over
from imprint.memory.weights import Episode, Factors, Memory, cut_into_episodes, initial_factors
from imprint.provenance import seed_for

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

JUDGED_TOGETHER = 16
"""Validation rows in one forward pass."""


ModelLoss = Callable[["nn.Module", Sequence[Example]], "Tensor"]


class Trained(NamedTuple):
    """A memory and what its training did."""

    memory: Memory
    fitted: tuple[Fitted, ...]

    @property
    def seconds(self) -> float:
        """Time spent in training steps."""
        return sum(fitted.seconds for fitted in self.fitted)


def train_memory(
    base: BaseModelInUse,
    user_id: str,
    examples: Sequence[Example],
    config: MemoryConfig,
    seed: int,
    batch_rows: int = 16,
    validation: Sequence[Example] = (),
    early_stopping: EarlyStopping | None = None,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Trained:
    """Train one user's memory, episode by episode, each with the earlier ones present and frozen.

    With `early_stopping`, every episode ends by the loss on `validation`; without such rows it has all its epochs.
    Randomness comes from (seed, user_id) alone. `MemoryConfigError` if the history has fewer rows than episodes.
    """
    settings = FitSettings(learning_rate=config.learning_rate, epochs=config.epochs, batch_rows=batch_rows)
    return _train(base, user_id, examples, config, settings, seed, on_step, validation, early_stopping)


def train_everybody(
    base: BaseModelInUse,
    examples: Sequence[Example],
    settings: PooledSettings,
    seed: int,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train the pooled LoRA: one rank at every feed-forward linear, one episode, all users' rows."""
    config = MemoryConfig(
        ranks=(settings.rank,),
        targets=tuple(target for target in FEED_FORWARD if any(site.target == target for site in base.sites)),
        alpha_ratio=settings.alpha_ratio,
        n_memories=1,
        learning_rate=settings.fit.learning_rate,
        epochs=settings.fit.epochs,
    )
    return _train(
        base, "everybody", examples, config, settings.fit, seed, on_step, checkpoint=checkpoint, loss_of=packed
    )


def _train(
    base: BaseModelInUse,
    user_id: str,
    examples: Sequence[Example],
    config: MemoryConfig,
    settings: FitSettings,
    seed: int,
    on_step: Callable[[int, int], None],
    validation: Sequence[Example] = (),
    early_stopping: EarlyStopping | None = None,
    checkpoint: Checkpoint | None = None,
    loss_of: ModelLoss = padded,
) -> Trained:
    enough_rows(user_id, len(examples), config)
    config.site_ranks(base.sites)  # fails here, before PEFT is touched
    model = _peft_model(base, config.as_trained)
    try:
        episodes, fitted = [], []
        for number, rows in enumerate(cut_into_episodes(examples, config.n_memories)):
            weights = _start_episode(model, base, config.as_trained, seed, user_id, number)
            order = seed_for(seed, "order", user_id, number)
            trained = _parameters(weights)
            watch = watch_over(validation, early_stopping)
            on_epoch = partial(_judged, watch, base.model, validation, trained)
            fitted.append(
                fit(
                    base.model,
                    trained,
                    rows,
                    settings,
                    order,
                    on_step,
                    on_epoch,
                    checkpoint,
                    partial(loss_of, base.model),
                )
            )
            if watch is not None:
                watch.restore(trained)
            epochs = settings.epochs if watch is None else watch.best_epoch
            episodes.append(Episode(len(rows), fingerprint_of_examples(rows), epochs, _detached(weights)))
        return Trained(Memory(user_id, base.record.fingerprint, config, tuple(episodes)), tuple(fitted))
    finally:
        model.unload()
        base.model.requires_grad_(False)


def _judged(watch: Watch | None, model: nn.Module, validation: Sequence[Example], weights: Sequence[Tensor]) -> bool:
    """After an epoch: whether the episode ends here."""
    import torch

    if watch is None:
        return False
    blocks = (validation[start : start + JUDGED_TOGETHER] for start in range(0, len(validation), JUDGED_TOGETHER))
    with torch.no_grad():
        nats = sum(nats_per_row(model, collate(rows, device=weights[0].device)).sum().item() for rows in blocks)
    watch.note(nats / sum(row.response_tokens for row in validation), weights)
    return watch.over


def enough_rows(user_id: str, rows: int, config: MemoryConfig) -> None:
    """`MemoryConfigError` if a history has fewer rows than the config has episodes."""
    if rows < config.n_memories:
        raise MemoryConfigError(
            f"n_memories: {config.n_memories} episodes asked for user {user_id}, who has {rows} rows. "
            f"Next: ask for at most {rows}."
        )


def _peft_model(base: BaseModelInUse, config: MemoryConfig) -> PeftModel:
    import warnings

    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft 0.21 asks for an attribute under the name that transformers 5.23 has replaced
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(base.model, peft_config(config, base.sites), adapter_name="episode_0")  # type: ignore[arg-type, return-value]


def _start_episode(
    model: PeftModel, base: BaseModelInUse, config: MemoryConfig, seed: int, user_id: str, number: int
) -> dict[str, tuple[Any, Any]]:
    """Add the episode's LoRA, activate it beside the earlier ones, and leave only its weights trainable.

    Returns the two weight parameters by site name, set to our own start (`initial_factors`).
    """
    import torch

    adapter = f"episode_{number}"
    if number:
        model.add_adapter(adapter, peft_config(config, base.sites))
    model.base_model.set_adapter([f"episode_{earlier}" for earlier in range(number + 1)])
    model.requires_grad_(False)
    sites = {site.name: site for site in base.sites}
    weights = {}
    for name, rank in config.site_ranks(base.sites).items():
        layer: Any = base.model.get_submodule(name)
        start = initial_factors(sites[name], rank, seed, "memory", user_id, number)
        pair = (layer.lora_A[adapter].weight, layer.lora_B[adapter].weight)
        with torch.no_grad():
            for parameter, value in zip(pair, start, strict=True):
                parameter.copy_(value).requires_grad_(True)
        weights[name] = pair
    return weights


def _parameters(weights: dict[str, tuple[Any, Any]]) -> list[Any]:
    return [parameter for pair in weights.values() for parameter in pair]


def _detached(weights: dict[str, tuple[Any, Any]]) -> dict[str, Factors]:
    return {name: Factors(*(parameter.detach().cpu().clone() for parameter in pair)) for name, pair in weights.items()}
