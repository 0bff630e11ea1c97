"""Prepare, record and load a base model. Its fingerprint is a hash of its weights: a memory fits only that base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from imprint.base.checkpoint import Checkpoint
from imprint.base.embedded import SHAPES, save_model, train_embedded
from imprint.base.examples import Encoder, Interaction
from imprint.base.families import first_position
from imprint.base.fit import TRAINING_VERSION, all_finite
from imprint.base.placement import cast, device_for, format_for
from imprint.base.settings import BaseSettings
from imprint.base.sites import Site, family_of, layers_of, sites_of
from imprint.data.atomic import new_directory, read_manifest
from imprint.errors import BaseModelError, SettingsError, TrainingDivergedError
from imprint.provenance import fingerprint, fingerprint_of_rows
from imprint.storage import address, at, fetch

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


NOT_ARCHITECTURE = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache"}
"""Keys of a model's config that say where it came from and not what it computes."""

HOW_IT_COMPUTES = {"device", "dtype"}
"""Settings that a kept base does not depend on: it is trained and kept in fp32, and loads anywhere."""


class BaseRecord(BaseModel):
    """Which base model a run used, and how it came to be; what crosses between stages instead of the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    fingerprint: str
    family: str
    layers: int
    parameters: int
    pooled: bool = False
    training: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class BaseModelInUse:
    """A loaded base: frozen weights, encoder, the sites a memory may use, and whether a fleet trains `mixed` on it."""

    model: nn.Module
    encoder: Encoder
    record: BaseRecord
    mixed: bool = False
    sites: tuple[Site, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Find the sites now: once PEFT has wrapped a linear, what it was can no longer be seen."""
        object.__setattr__(self, "sites", sites_of(self.model))

    @property
    def reading(self) -> list[str | int]:
        """What decides how this base reads an interaction; part of the fingerprint of whatever is trained on it."""
        lengths = [self.encoder.max_query_tokens, self.encoder.max_response_tokens]
        return [self.record.fingerprint, *lengths, *([] if self.dtype == "float32" else [self.dtype])]

    @property
    def dtype(self) -> str:
        """What the frozen weights are kept in, and compute in where no fleet trains: `float32` or `bfloat16`."""
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")


def prepare_base(
    rows: Sequence[Interaction],
    settings: BaseSettings,
    seed: int,
    workspace: Path,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> BaseRecord:
    """The base model of this run: the one at `base.path`, or the embedded default trained on `rows`.

    An embedded base is kept under `workspace` by the fingerprint of what it was made from, so that the same rows and
    settings never train twice. A killed training goes on from its checkpoint there, which has the same name.
    """
    if settings.path is not None:
        return record_of(*load_pretrained(settings.path), settings.path)
    texts = fingerprint_of_rows(f"{row.record_id}\x1f{row.query}\x1f{row.response}" for row in rows)
    made_by = settings.model_dump(mode="json", exclude=HOW_IT_COMPUTES)
    name = fingerprint(made_by, SHAPES, seed, texts, TRAINING_VERSION)
    directory = workspace / f"base-{name}"
    manifest = read_manifest(directory)
    checkpoint = Checkpoint(workspace / f"base-{name}.checkpoint")
    if manifest is None:
        model, tokenizer, training = train_embedded(rows, settings, seed, on_step, checkpoint)
        if not all_finite(model.parameters()):
            checkpoint.remove()
            raise TrainingDivergedError(
                f"base.embedded.fit.learning_rate: {settings.embedded.fit.learning_rate} given; training diverged, its "
                "weights are no numbers. Next: lower it, and run again."
            )
        manifest = keep(model, tokenizer, directory, {"training": training})
    checkpoint.remove()
    return recorded(manifest, directory)


def recorded(manifest: Mapping[str, Any], directory: Path) -> BaseRecord:
    """The record of a model of ours, with the path where it is now: its folder may have been moved since."""
    return BaseRecord(**manifest["record"]).model_copy(update={"path": address(directory)})


def keep(model: nn.Module, tokenizer: Any, directory: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Save a model of ours whole or not at all; returns the manifest, whose `record` is a `BaseRecord`."""
    manifest = {"record": record_of(model, tokenizer, address(directory)).model_copy(update=dict(extra)).model_dump()}
    with new_directory(directory, manifest) as temporary:
        save_model(model, tokenizer, temporary)  # type: ignore[arg-type]
    return manifest


def record_of(model: nn.Module, tokenizer: Any, path: str) -> BaseRecord:
    """The record of a model in memory."""
    return BaseRecord(
        path=path,
        fingerprint=fingerprint_of_model(model, tokenizer),
        family=str(model.config.model_type),  # type: ignore[union-attr]
        layers=len(layers_of(model)),
        parameters=sum(weight.numel() for weight in model.parameters()),
    )


def fingerprint_of_model(model: nn.Module, tokenizer: Any) -> str:
    """16 hex digits over all that decides an output: weights by name, the architecture's config, the tokenizer."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name}:{weight.dtype}:{tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    config = {key: value for key, value in model.config.to_dict().items() if key not in NOT_ARCHITECTURE}  # type: ignore[union-attr, operator]
    special = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    digest.update(
        fingerprint(
            json.loads(json.dumps(config, default=str)), sorted(tokenizer.get_vocab().items()), special
        ).encode()
    )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    digest.update(backend.to_str().encode() if backend is not None else b"")
    return digest.hexdigest()[:16]


def load_pretrained(path: str) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """A Hugging Face model that writes text, and its tokenizer, from a folder, a URL or a hub id. No remote code runs.

    RoBERTa is loaded as a decoder, in which no token sees a later one.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.utils import logging

    place = str(fetch(at(path)))
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it would draw over ours
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        if config.model_type == "roberta":
            config.is_decoder = True
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(
            place, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"base.path: {path!r} cannot be loaded as a Hugging Face language model, causal or encoder-decoder, with "
            f"safetensors weights and tokenizer ({str(error).splitlines()[0]}). Next: give a folder that "
            "save_pretrained wrote, or a hub id this machine can reach; null trains the embedded default."
        ) from error
    finally:
        if bar:
            logging.enable_progress_bar()
    family_of(model)
    return model.eval().requires_grad_(False), tokenizer


def load_base(record: BaseRecord, settings: BaseSettings) -> BaseModelInUse:
    """The base a record names, checked, on the device and in the number format of the settings.

    Other weights under the same path raise `BaseModelError`.
    """
    import torch

    try:
        model, tokenizer = load_pretrained(record.path)
    except BaseModelError as error:
        if record.path == settings.path:
            raise
        raise BaseModelError(
            f"the model at {record.path}, which this run's base stage recorded, cannot be loaded: "
            f"{str(error.__cause__ or error).splitlines()[0]}. Next: run the base stage again."
        ) from error
    found = fingerprint_of_model(model, tokenizer)
    if found != record.fingerprint:
        raise BaseModelError(
            f"base model at {record.path} has fingerprint {found}, the record says {record.fingerprint}: the model "
            "was changed since. Next: run the base stage again."
        )
    encoder = Encoder(tokenizer, settings.max_query_tokens, settings.max_response_tokens)
    room = positions_beside(model, encoder)
    if room is not None and room < 0:
        raise SettingsError(
            f"base.max_query_tokens and base.max_response_tokens: {encoder.max_query_tokens} and "
            f"{encoder.max_response_tokens} given, for which {record.path} is short of {-room} positions. "
            "Next: lower one of the two."
        )
    device = device_for(settings.device)
    numbers = format_for(settings.dtype, model, device)
    if numbers == "bfloat16":
        cast(model, torch.bfloat16)
    return BaseModelInUse(model.to(device), encoder, record, mixed=numbers == "mixed")


def positions_beside(model: nn.Module, encoder: Encoder) -> int | None:
    """Positions left beside the longest query and response, or None where positions are relative (rotary, T5's)."""
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    if positions is None or any("rotary" in name for name, _ in model.named_modules()):
        return None
    taken = encoder.max_query_tokens + encoder.max_response_tokens + 3
    return positions - first_position(model) - taken


def in_full(base: BaseModelInUse) -> BaseModelInUse:
    """The same base in fp32, as it is kept on disk: what is merged into it loses no digits."""
    if base.dtype == "float32":
        return base
    return replace(base, model=load_pretrained(base.record.path)[0])
