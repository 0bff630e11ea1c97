"""The profiles of kubeflow.yml: what a step's pods are given, and how often a failed one is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from kedro_kfp.fields import Bytes, Cores, Settings

_LONGEST_WAIT = 86_400
_YEAR = 365 * 86_400


class Accelerator(Settings):
    """Devices of one kind, a step."""

    type: str = Field(default="nvidia.com/gpu", description="The resource's name in Kubernetes.")
    count: int = Field(default=1, gt=0, description="Devices a pod.")


class Toleration(Settings):
    """A taint that a step's pods put up with."""

    key: str | None = Field(default=None, description="The taint's key; none with operator Exists is every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How the taint's value is compared.")
    value: str | None = Field(default=None, description="The taint's value, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The effect to tolerate; none is every effect."
    )


class NodeLabel(Settings):
    """One requirement on a machine's labels."""

    key: str = Field(min_length=1, description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(description="The comparison.")
    values: tuple[str, ...] = Field(default=(), description="What the label is compared with.")


class Affinity(Settings):
    """Machines that a step's pods must have, or prefer."""

    labels: tuple[NodeLabel, ...] = Field(min_length=1, description="All must hold.")
    weight: int | None = Field(default=None, ge=1, le=100, description="A preference's weight; none: a requirement.")


class Retry(Settings):
    """How a failed step is tried again.

    Argo tries again what ended with an error of its own: a command that fails, a pod that is killed or evicted. A pod
    that is deleted together with its machine is not tried again.
    """

    attempts: int = Field(default=0, ge=0, le=20, description="How often a failed task is tried again.")
    backoff_seconds: int = Field(default=30, ge=0, description="The wait before the first new attempt.")
    backoff_factor: int = Field(
        default=2, ge=1, description="Each wait is this many times the one before; Argo knows whole numbers only."
    )

    @model_validator(mode="after")
    def _check(self) -> Retry:
        longest = max(self.waits(), default=0)
        if longest > _LONGEST_WAIT:
            raise ValueError(
                f"the last of {self.attempts} waits would be {longest} s; allowed are {_LONGEST_WAIT}. "
                "Next: fewer attempts, or backoff_factor: 1, with which every wait is as long"
            )
        return self

    def waits(self) -> list[int]:
        """Seconds before each new attempt."""
        return [self.backoff_seconds * self.backoff_factor**number for number in range(self.attempts)]

    def seconds_for_all(self, timeout: int | None, deadline: int | None) -> int:
        """How long after the first attempt was asked for Argo may still begin another.

        Enough for every attempt to take its whole timeout. Waiting for a machine counts too, and nobody knows how long
        that is: so the run's own deadline is the bound, and without one a year.
        """
        return max((self.attempts + 1) * (timeout or 0) + sum(self.waits()), deadline or _YEAR)


class Profile(Settings):
    """What a step's pods are given. What a profile does not say, `profiles.default` says."""

    cpu: Cores = Field(default="1", description="CPU cores, requested and limited to.")
    memory: Bytes = Field(default="2Gi", description="Memory, requested and limited to.")
    accelerator: Accelerator | None = Field(default=None, description="GPUs or the like.")
    shared_memory: Bytes | None = Field(default=None, description="Size of /dev/shm; counts as memory.")
    node_selector: Mapping[str, str] = Field(default_factory=dict, description="Labels the machine must have.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints the pods put up with.")
    affinity: tuple[Affinity, ...] = Field(
        default=(), description="Machines wanted or preferred; of several required entries, one is enough."
    )
    retry: Retry = Field(default=Retry(), description="What happens after a failure.")
    timeout_seconds: int | None = Field(default=None, gt=0, description="A pod that runs longer is ended.")
    cache: bool = Field(
        default=False,
        description="Let Kubeflow skip the step when its inputs are those of an earlier run; only for steps whose "
        "outputs lie under content-addressed paths, because a skipped step writes nothing, and only without "
        "`run.run_id_parameter` and `run.outcome_folder`, because no two runs have one id.",
    )

    def with_changes(self, other: Profile) -> Profile:
        """The profile that says what `other` says, and for the rest what this one says."""
        return Profile(**{**_said(self), **_said(other)})


def _said(profile: Profile) -> dict[str, Any]:
    return {name: getattr(profile, name) for name in Profile.model_fields if name in profile.model_fields_set}


class StepWishes(Profile):
    """One step's own wishes, over those of its profile."""

    profile: str | None = Field(default=None, description="A name of `profiles`; none: the nodes' res.* tag.")
