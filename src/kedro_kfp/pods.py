"""What one task's pod is given: resources, machines, volumes, secrets, user, retries. All through kfp's public API."""

from __future__ import annotations

from typing import Any

from kedro_kfp.profiles import Profile
from kedro_kfp.settings import KubeflowSettings

STEP_LABEL = "kedro-kfp/step"


def dress(task: Any, step: str, profile: Profile, settings: KubeflowSettings) -> None:
    """Give the task of `step` everything its pods need."""
    task.set_display_name(step)
    task.set_caching_options(profile.cache)
    _resources(task, profile)
    _machines(task, profile)
    _trials(task, profile, settings.run.deadline_seconds)
    _surroundings(task, step, settings)


def _resources(task: Any, profile: Profile) -> None:
    from kfp import kubernetes

    task.set_cpu_request(profile.cpu).set_cpu_limit(profile.cpu)
    task.set_memory_request(profile.memory).set_memory_limit(profile.memory)
    if profile.accelerator:
        task.set_accelerator_type(profile.accelerator.type).set_accelerator_limit(profile.accelerator.count)
    if profile.shared_memory:
        kubernetes.empty_dir_mount(
            task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=profile.shared_memory
        )


def _machines(task: Any, profile: Profile) -> None:
    from kfp import kubernetes

    for label, value in profile.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for toleration in profile.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    for affinity in profile.affinity:
        labels = [{**label.model_dump(), "values": list(label.values)} for label in affinity.labels]
        kubernetes.add_node_affinity(task, match_expressions=labels, weight=affinity.weight)


def _trials(task: Any, profile: Profile, deadline: int | None) -> None:
    from kfp import kubernetes

    if profile.retry.attempts:
        retry = profile.retry
        task.set_retry(
            retry.attempts,
            backoff_duration=f"{retry.backoff_seconds}s",
            backoff_factor=retry.backoff_factor,
            # the time of all attempts together, not the longest wait: after it Argo begins none
            backoff_max_duration=f"{retry.seconds_for_all(profile.timeout_seconds, deadline)}s",
        )
    if profile.timeout_seconds:
        kubernetes.set_timeout(task, profile.timeout_seconds)


def _surroundings(task: Any, step: str, settings: KubeflowSettings) -> None:
    from kfp import kubernetes

    for variable, value in settings.environment.items():
        task.set_env_variable(variable, value)
    for secret in settings.secrets:
        kubernetes.use_secret_as_env(task, secret_name=secret.name, secret_key_to_env=dict(secret.keys))
    for files in settings.secret_files:
        kubernetes.use_secret_as_volume(task, secret_name=files.name, mount_path=files.mount_path)
    for volume in settings.volumes:
        kubernetes.mount_pvc(task, volume.claim, volume.mount_path, sub_path=volume.sub_path)
    for number, scratch in enumerate(settings.scratch):
        kubernetes.empty_dir_mount(
            task, volume_name=f"scratch-{number}", mount_path=scratch.mount_path, size_limit=scratch.size
        )
    if settings.security:
        kubernetes.set_security_context(task, **settings.security.model_dump())
    for label, value in {**settings.labels, STEP_LABEL: step}.items():
        kubernetes.add_pod_label(task, label, value)
    kubernetes.set_image_pull_policy(task, settings.image_pull_policy)
    if settings.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(settings.image_pull_secrets))
