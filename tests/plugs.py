"""Persona-Plug on toys: made, taught, and what it puts before a prompt."""

import torch
from toys import invented_rows

from imprint.base.settings import FitSettings
from imprint.personalizers.persona_plug import PlugConditioner
from imprint.personalizers.settings import PlugSettings
from imprint.personalizers.shared import taught, teach

FIT = FitSettings(learning_rate=5e-3, epochs=2, batch_rows=8)
TEACHERS = {user: invented_rows(user, 8) for user in ("tom", "una")}


def settings(**changes):
    return PlugSettings(fit=FIT, augment=1, **changes)


def plug(base, workspace, **changes):
    return PlugConditioner(base, settings(**changes), 1, workspace)


def trained(base, workspace, **changes):
    record = teach(plug(base, workspace, **changes), "persona_plug", TEACHERS, settings(**changes), FIT, 1, workspace)
    return record, lambda: taught(plug(base, workspace, **changes), record)


def soft_part(base, conditioner, asked, row):
    """What the model is given in the soft places of one row of a batch under `given(asked)`."""
    ids = torch.tensor([conditioner.prefix(one) for one in asked])
    return base.model.get_input_embeddings()(ids)[row]
