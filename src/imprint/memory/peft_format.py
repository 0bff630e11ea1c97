"""PEFT's vocabulary for our memories: its config, and its adapter folder for one user.

All episodes of a memory, joined along the rank, are one LoRA of rank n·r with lora_alpha = scale · n · r: lora_alpha /
rank stays what the update is multiplied by, so the export is exact and any tool that reads PEFT folders can serve it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imprint.base.sites import Site, of_encoder_decoder
from imprint.data.atomic import new_directory
from imprint.memory.config import MemoryConfig
from imprint.memory.weights import Factors, Memory

if TYPE_CHECKING:
    from peft import LoraConfig


def peft_config(config: MemoryConfig, sites: Sequence[Site], episodes: int = 1, path: str | None = None) -> LoraConfig:
    """PEFT's config of `episodes` episodes joined: an exact rank and alpha for every site, by its full name."""
    from peft import LoraConfig, TaskType

    ranks = {name: rank * episodes for name, rank in config.site_ranks(sites).items()}
    largest = max(ranks.values())
    return LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if of_encoder_decoder(sites) else TaskType.CAUSAL_LM,
        base_model_name_or_path=path,
        r=largest,
        lora_alpha=config.scale * largest,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=sorted(ranks),
        rank_pattern=ranks,
        alpha_pattern={name: config.scale * rank for name, rank in ranks.items()},
        fan_in_fan_out=any(site.transposed for site in sites),
    )


def join_episodes(memory: Memory) -> Mapping[str, Factors]:
    """The factors of all episodes joined along the rank, by site name."""
    import torch

    return {
        name: Factors(
            torch.cat([episode.factors[name].a for episode in memory.episodes], dim=0),
            torch.cat([episode.factors[name].b for episode in memory.episodes], dim=1),
        )
        for name in memory.episodes[0].factors
    }


def export_peft(memory: Memory, sites: Sequence[Site], base_path: str, directory: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, whole or not at all, as PEFT itself would."""
    from safetensors.torch import save_file

    tensors = {}
    for name, (a, b) in join_episodes(memory).items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
    config = peft_config(memory.config, sites, episodes=len(memory.episodes), path=base_path)
    config.inference_mode = True
    with new_directory(
        directory, {"user_id": memory.user_id, "base_fingerprint": memory.base_fingerprint}
    ) as temporary:
        config.save_pretrained(str(temporary))
        save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})
