"""The opponents in training: stock PEFT with `transformers.Trainer`, and a hand-written PEFT loop; one user at a time.

Both see the same rows in the same steps as the fleet, start from the same factors, and follow the same schedule, so
that their losses can be compared. What makes that possible (the plan, the start of the factors) is not timed. A config
of several episodes is several trainings, each with the earlier episodes present and frozen.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from machine import timed
from setting import SEED, Setting, User

from imprint.base.examples import Example, collate
from imprint.base.fit import batches, share_of_peak
from imprint.base.load import BaseModelInUse
from imprint.base.loss import nats_per_row
from imprint.base.settings import FitSettings
from imprint.memory.config import MemoryConfig
from imprint.memory.peft_format import peft_config
from imprint.memory.trainer import train_memory
from imprint.memory.weights import cut_into_episodes, initial_factors
from imprint.provenance import seed_for

IGNORED = -100


class Run(NamedTuple):
    """One user's training: seconds, the mean loss of its last tenth of steps, and of rows it was scored on, if any."""

    seconds: float
    final_loss: float
    scored: float | None = None


def with_trainer(setting: Setting, config: MemoryConfig, user: User, rows: Sequence[Example] = ()) -> Run:
    """A fresh PEFT model and fresh Trainers for this user, as their documentation has it; then `rows` are scored."""
    config = config.as_trained  # what PEFT calls lora_alpha has its strength in it
    settings = FitSettings(learning_rate=config.learning_rate, epochs=config.epochs, batch_rows=setting.batch_rows)
    plans = [
        list(batches(mine, settings, seed_for(SEED, "order", user.user_id, number)))
        for number, mine in enumerate(cut_into_episodes(user.examples, config.n_memories))
    ]
    scored = None
    seconds, model = timed(lambda: peft_model(setting.base, config, _episode(0)), setting.device)
    try:
        for number, plan in enumerate(plans):
            if number:
                lora = peft_config(config, setting.base.sites)
                seconds += timed(partial(model.add_adapter, _episode(number), lora), setting.device)[0]
            _start_as_ours(model, setting.base, config, user.user_id, number)
            taken, losses = timed(partial(_train, model, plan, settings, setting.device), setting.device)
            seconds += taken
        if rows:
            taken, scored = timed(lambda: _mean_loss(setting, rows), setting.device)
            seconds += taken
    finally:
        model.unload()
        setting.base.model.requires_grad_(False)
    tail = losses[-max(1, len(losses) // 10) :]
    return Run(seconds, sum(tail) / len(tail), scored)


def with_loop(setting: Setting, config: MemoryConfig, user: User, bf16: bool) -> Run:
    """Imprint's own one-user trainer: plain PEFT in a short loop, vocabulary projected at response positions only."""
    # autocast's cache would keep the memory's first weights, cast, for every step of the training
    context = torch.autocast(setting.device, torch.bfloat16, cache_enabled=False) if bf16 else nullcontext()
    with context:
        seconds, trained = timed(
            lambda: train_memory(setting.base, user.user_id, user.examples, config, SEED, setting.batch_rows),
            setting.device,
        )
    return Run(seconds, trained.fitted[-1].final_loss)


def is_bf16(setting: Setting) -> bool:
    """Whether the base's weights are bf16."""
    return next(setting.base.model.parameters()).dtype is torch.bfloat16


def in_bf16(setting: Setting) -> Setting:
    """The same setting on a copy of the base whose weights are bf16."""
    base = setting.base
    model = deepcopy(base.model)
    for weight in model.parameters():  # buffers stay: rotary frequencies lose too much in bf16
        weight.data = weight.data.to(torch.bfloat16)
    return replace(setting, base=BaseModelInUse(model, base.encoder, base.record))


def peft_model(base: BaseModelInUse, config: MemoryConfig, adapter: str, in_fp32: bool = True) -> Any:
    """The base with one fresh LoRA, named `adapter`, at the sites of `config`; in fp32, or in the base's own dtype."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft 0.21 asks for an attribute under the name that transformers 5.23 has replaced
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        lora = peft_config(config, base.sites)
        return get_peft_model(base.model, lora, adapter_name=adapter, autocast_adapter_dtype=in_fp32)  # type: ignore[arg-type]


def _episode(number: int) -> str:
    return f"episode_{number}"


def _start_as_ours(model: Any, base: BaseModelInUse, config: MemoryConfig, user_id: str, number: int) -> None:
    """Give episode `number` the start it has in the fleet, beside the earlier ones, which are frozen."""
    adapter, ranks = _episode(number), config.site_ranks(base.sites)
    model.base_model.set_adapter([_episode(earlier) for earlier in range(number + 1)])
    for name, weight in model.named_parameters():
        weight.requires_grad_(f".{adapter}." in name)
    for site in base.sites:
        if site.name in ranks:
            layer: Any = base.model.get_submodule(site.name)
            start = initial_factors(site, ranks[site.name], SEED, "memory", user_id, number)
            with torch.no_grad():
                layer.lora_A[adapter].weight.copy_(start.a)
                layer.lora_B[adapter].weight.copy_(start.b)


def _mean_loss(setting: Setting, rows: Sequence[Example]) -> float:
    """Nats per response token of `rows` under the adapters that are in place, a step's rows at a time."""
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), setting.batch_rows):
            batch = collate(rows[start : start + setting.batch_rows], device=setting.device)
            nats += float(nats_per_row(setting.base.model, batch).sum())
    return nats / sum(row.response_tokens for row in rows)


def _train(model: Any, plan: Sequence[list[Example]], settings: FitSettings, device: str) -> list[float]:
    """Train with the Trainer; the loss of every step."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class Recorded(Trainer):
        """A Trainer that keeps the loss of each step; stock otherwise."""

        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(*args, **kwargs)
            losses.append(loss)
            return loss

    losses: list[torch.Tensor] = []
    optimiser = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: share_of_peak(step, len(plan), settings.warmup_share)
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,  # the plan holds all epochs, and one of its items is one step
            per_device_train_batch_size=1,
            train_sampling_strategy="sequential",
            max_grad_norm=settings.clip_norm,
            eval_strategy="no",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=device == "cuda",
            use_cpu=device == "cpu",
            bf16=device == "cuda",
        )
        trainer = Recorded(
            model=model,
            args=arguments,
            train_dataset=plan,
            data_collator=lambda steps: _padded(steps[0]),
            optimizers=(optimiser, schedule),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return torch.stack(losses).tolist()


def _padded(rows: Sequence[Example]) -> dict[str, torch.Tensor]:
    """The rows of one step with the labels of a causal LM: the query and the padding are ignored."""
    width = max(len(row.input_ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        size, start = len(row.input_ids), row.response_start
        ids[place, :size] = torch.tensor(row.input_ids)
        labels[place, start:size] = ids[place, start:size]
        mask[place, :size] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
