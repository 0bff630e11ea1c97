"""What kubeflow.yml may say: where steps run, with what, and how often they are tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from kedro_kfp.credentials import holds_credential, is_secret_name, passwords
from kedro_kfp.errors import SettingsError
from kedro_kfp.fields import AbsolutePath, Bytes, Image, Label, Settings, Variable
from kedro_kfp.names import RunName, ScheduleName
from kedro_kfp.profiles import Profile, StepWishes
from kedro_kfp.search_settings import Katib


class Secret(Settings):
    """A Kubernetes secret whose values steps read from their environment."""

    name: Label = Field(description="The secret's name.")
    keys: Mapping[str, str] = Field(min_length=1, description="Key in the secret: environment variable.")


class SecretFiles(Settings):
    """A Kubernetes secret whose keys steps read as files."""

    name: Label = Field(description="The secret's name.")
    mount_path: AbsolutePath = Field(description="The folder in which each key is a file.")


class Volume(Settings):
    """A persistent volume claim in every step's pod."""

    claim: Label = Field(description="The claim's name.")
    mount_path: AbsolutePath = Field(description="Where steps see it.")
    sub_path: str = Field(default="", description="The part of the volume that is mounted; none: all of it.")


class Scratch(Settings):
    """An empty folder of each pod's own, gone with the pod: where an image with a read-only root may write."""

    mount_path: AbsolutePath = Field(description="Where steps see it.")
    size: Bytes = Field(description="A pod that writes more is ended.")


class Security(Settings):
    """Whom containers run as. KFP offers no more than this; what else a pod may do is the cluster's policy."""

    run_as_user: int | None = Field(default=None, gt=0, description="User id; none: the image's.")
    run_as_group: int | None = Field(default=None, gt=0, description="Group id; none: the image's.")
    run_as_non_root: bool = Field(default=True, description="Refuse to start as root.")


class FanOut(Settings):
    """One task for each item of a list that a step writes."""

    parameter: str = Field(min_length=1, description="The Kedro parameter (dotted) that a task finds its item in.")
    parallelism: int = Field(gt=0, description="Tasks at work at a time.")


class Artifact(Settings):
    """A dataset shown in Kubeflow's own pages."""

    kind: Literal["metrics", "html", "markdown"] = Field(description="How it is shown.")
    keep: tuple[str, ...] = Field(default=("*",), description="Of metrics: dotted names to show, with wildcards.")


class Client(Settings):
    """How commands reach the Kubeflow API. Credentials are read from the environment, never from a file here."""

    host: str | None = Field(default=None, description="URL of the API; none: the kfp client finds it itself.")
    ui_host: str | None = Field(default=None, description="URL of the pages, where it is another.")
    namespace: Label = Field(default="kubeflow", description="Namespace that Kubeflow Pipelines is installed in.")
    user_namespace: Label | None = Field(default=None, description="Namespace of runs, where several users share it.")
    kube_context: str | None = Field(default=None, description="Context in the kubeconfig, without a host.")
    proxy: str | None = Field(default=None, description="URL of a proxy.")
    ca_file: str | None = Field(default=None, description="Certificates to trust, beside the system's.")
    verify_tls: bool = Field(default=True, description="Check the server's certificate.")
    token_variable: str | None = Field(default=None, description="Environment variable with a bearer token.")
    cookies_variable: str | None = Field(default=None, description="Environment variable with session cookies (Dex).")
    iap_client_id: str | None = Field(default=None, description="OAuth client of an Identity-Aware Proxy.")

    @property
    def pods_namespace(self) -> str:
        """Where pods run: without a user's namespace, where Pipelines is installed, and nowhere else."""
        return self.user_namespace or self.namespace


class Run(Settings):
    """One run, and what is left of it."""

    experiment: str = Field(default="default", min_length=1, description="The experiment that runs are filed under.")
    name: RunName = Field(default="{pipeline}", description="A run's name, of {pipeline}, {env}, {date} and {time}.")
    schedule_name: ScheduleName = Field(default="{pipeline}", description="A schedule's, of {pipeline} and {env}.")
    ttl_seconds: int | None = Field(default=None, gt=0, description="A finished run's objects are removed after this.")
    deadline_seconds: int | None = Field(default=None, gt=0, description="A run that takes longer is ended.")
    outcome_folder: str | None = Field(
        default=None,
        description="Folder or URL; an exit handler writes there how each run ended, and what failed.",
    )
    run_id_parameter: str | None = Field(
        default=None, description="The Kedro parameter (dotted) in which steps find the run's id, for paths."
    )


class KubeflowSettings(Settings):
    """All of kubeflow.yml."""

    name: Label = Field(description="The pipeline's name in Kubeflow.")
    description: str = Field(default="", description="Shown beside the name.")
    image: Image = Field(description="The image every step runs in, pinned.")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When a machine fetches the image."
    )
    image_pull_secrets: tuple[Label, ...] = Field(default=(), description="Secrets for the image's registry.")
    service_account: Label | None = Field(default=None, description="The account that pods run under.")
    project_path: AbsolutePath = Field(description="The project's folder in the image, which is its working directory.")
    image_paths: tuple[str, ...] = Field(default=("conf",), description="Folders in the image, which steps only read.")
    group_by: Literal["node", "namespace"] = Field(
        default="node", description="What makes a step of nodes without a group.* tag."
    )
    profiles: Mapping[str, Profile] = Field(description="Resources by the name in nodes' res.* tags.")
    steps: Mapping[str, StepWishes] = Field(default_factory=dict, description="Wishes of single steps.")
    fan_outs: Mapping[str, FanOut] = Field(default_factory=dict, description="Lists, by dataset, that tasks run over.")
    artifacts: Mapping[str, Artifact] = Field(default_factory=dict, description="Datasets shown in Kubeflow's pages.")
    volumes: tuple[Volume, ...] = Field(default=(), description="Volumes of every step.")
    scratch: tuple[Scratch, ...] = Field(default=(), description="Empty folders of every pod's own.")
    security: Security | None = Field(default=None, description="Whom containers run as; none: as the image says.")
    secrets: tuple[Secret, ...] = Field(default=(), description="Secrets of every step, as variables.")
    secret_files: tuple[SecretFiles, ...] = Field(default=(), description="Secrets of every step, as files.")
    environment: Mapping[str, str] = Field(default_factory=dict, description="Environment variables of every step.")
    environment_from_shell: tuple[Variable, ...] = Field(
        default=(), description="Names of further variables; compiling writes the values that its own shell has."
    )
    labels: Mapping[str, str] = Field(default_factory=dict, description="Labels of every pod.")
    katib: Katib | None = Field(default=None, description="A search with Katib, for `kedro kubeflow katib`.")
    run: Run = Field(default=Run(), description="Runs.")
    client: Client = Field(default=Client(), description="The Kubeflow API.")

    @model_validator(mode="before")
    @classmethod
    def _no_passwords(cls, written: Any) -> Any:
        for place in passwords(written):
            raise ValueError(
                f"{place} holds a URL with a user and a password, and would tell everybody. Next: leave them out, put "
                "them into a Kubernetes secret and name it under `secrets`"
            )
        return written

    @model_validator(mode="after")
    def _check(self) -> KubeflowSettings:
        if "default" not in self.profiles:
            raise ValueError("profiles: 'default' is missing; every other profile stands on it. Next: add it")
        for name in (*self.environment, *self.environment_from_shell):
            if is_secret_name(name) or holds_credential(self.environment.get(name, "")):
                where = "environment" if name in self.environment else "environment_from_shell"
                raise ValueError(_looks_like_a_credential(f"{where}.{name}"))
        if twice := sorted(self.environment.keys() & set(self.environment_from_shell)):
            raise ValueError(f"environment, environment_from_shell: {twice} are named in both. Next: choose one")
        folders: tuple[Volume | Scratch | SecretFiles, ...] = (*self.volumes, *self.scratch, *self.secret_files)
        mounted = [one.mount_path for one in folders]
        if twice := sorted({path for path in mounted if mounted.count(path) > 1}):
            raise ValueError(f"volumes, scratch, secret_files: {twice} are mounted twice. Next: name each place once")
        taken = {"params", "env", "run", "item", "items", "status"} & self.artifacts.keys()
        if taken:
            raise ValueError(f"artifacts: {sorted(taken)} are names of the translator's own. Next: rename the dataset")
        cached = [f"profiles.{name}" for name, profile in self.profiles.items() if profile.cache]
        cached += [f"steps.{name}" for name, wishes in self.steps.items() if wishes.cache]
        if cached and self.tells_run:
            raise ValueError(
                f"{cached[0]}.cache: Kubeflow skips a step whose inputs are those of an earlier run, and the id of "
                "each run is an input. Next: leave cache off, or both run.run_id_parameter and run.outcome_folder"
            )
        return self

    @property
    def tells_run(self) -> bool:
        """Whether steps are told the run's id."""
        return self.run.run_id_parameter is not None or self.run.outcome_folder is not None

    def with_shell(self, shell: Mapping[str, str]) -> KubeflowSettings:
        """These settings with the values that `environment_from_shell` leaves to the shell.

        `SettingsError` where one is not set, or has the form of a credential; the message never holds a value.
        """
        if missing := [name for name in self.environment_from_shell if name not in shell]:
            raise SettingsError(
                f"environment_from_shell: {missing} are not set in this shell. Next: export them, or take them out of "
                "kubeflow.yml."
            )
        taken = {name: shell[name] for name in self.environment_from_shell}
        for name, value in taken.items():
            if holds_credential(value):
                raise SettingsError(_looks_like_a_credential(f"environment_from_shell.{name}"))
        return self.model_copy(update={"environment": {**self.environment, **taken}})

    def profile_named(self, name: str) -> Profile:
        """A profile with what it leaves to `profiles.default` filled in."""
        return self.profiles["default"].with_changes(self.profiles[name])


def _looks_like_a_credential(field: str) -> str:
    return (
        f"{field} looks like a credential, and its value would be in the compiled file. "
        "Allowed are plain values. Next: put it into a Kubernetes secret and name it under `secrets`"
    )


def read_settings(written: Mapping[str, Any]) -> KubeflowSettings:
    """The settings in kubeflow.yml. `SettingsError` with every defect, a line each, and the field's name."""
    try:
        return KubeflowSettings.model_validate(dict(written))
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, one['loc'])) or 'kubeflow.yml'}: {one['msg']}" for one in error.errors()]
        raise SettingsError("\n".join(["kubeflow.yml cannot be used:", *lines])) from error
