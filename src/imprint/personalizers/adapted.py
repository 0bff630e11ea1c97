"""A copy of a base that is trained with a method: whole, or by a LoRA in its feed-forward layers."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

from torch import nn

from imprint.base.load import BaseModelInUse
from imprint.base.sites import FEED_FORWARD

LORA_ALPHA_RATIO = 2.0


def adapted(base: BaseModelInUse, lora_rank: int | None) -> tuple[BaseModelInUse, nn.ParameterDict]:
    """The copy, in fp32, and by their names in it the weights that are trained: a LoRA's, or all without a rank.

    In the names, `|` stands for a dot. A fresh LoRA changes nothing: its B is zero.
    """
    copy = replace(base, model=deepcopy(base.model).float(), mixed=False)
    if lora_rank is None:
        copy.model.requires_grad_(True)
    else:
        from peft import inject_adapter_in_model

        from imprint.memory.config import MemoryConfig
        from imprint.memory.peft_format import peft_config

        targets = tuple(target for target in FEED_FORWARD if any(site.target == target for site in base.sites))
        # learning rate and epochs are a memory's; here they are said by whoever trains
        config = MemoryConfig(
            ranks=(lora_rank,),
            targets=targets,
            alpha_ratio=LORA_ALPHA_RATIO,
            n_memories=1,
            learning_rate=1e-3,
            epochs=1,
        )
        inject_adapter_in_model(peft_config(config, base.sites), copy.model)
    trained = (named for named in copy.model.named_parameters() if named[1].requires_grad)
    return copy, nn.ParameterDict({name.replace(".", "|"): weight for name, weight in trained})
