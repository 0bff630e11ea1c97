"""What the block `katib` of kubeflow.yml may say: which step is a trial, what is searched, for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from kedro_kfp.fields import Settings


class Objective(Settings):
    """The number that a search makes small or large."""

    name: str = Field(default="objective", pattern=r"^[A-Za-z][\w-]*$", description="Its name in Katib.")
    dataset: str = Field(description="The dataset of the step that holds it, a nested dictionary.")
    key: str = Field(description="Where in the dataset, dotted.")
    goal: Literal["minimize", "maximize"] = Field(default="minimize", description="Which way is better.")


class Searched(Settings):
    """One parameter of a search. Its bounds or choices stand in the Kedro parameters, in one place."""

    kind: Literal["double", "int", "choice"] = Field(description="A number between two bounds, or one of a list.")
    source: str = Field(description="The Kedro parameter (dotted) with [least, greatest], or with the list of choices.")
    logarithmic: bool = Field(default=False, description="Draw numbers evenly on a logarithmic scale.")


class Katib(Settings):
    """A search with Katib: TPE, one trial a pod."""

    step: str = Field(description="The step that runs one trial; it must fan out over nothing.")
    objective: Objective = Field(description="What is searched for.")
    parameters: Mapping[str, Searched] = Field(min_length=1, description="Kedro parameters (dotted) that are searched.")
    trials: int = Field(gt=0, description="Trials altogether.")
    parallel: int = Field(default=1, gt=0, description="Trials at a time; with more, TPE learns less from each.")
    failures: int = Field(default=0, ge=0, description="Failed trials that the search survives.")
    startup: int = Field(default=5, gt=0, description="First trials, drawn at random.")
    seed: int = Field(default=0, ge=0, description="Of TPE.")
