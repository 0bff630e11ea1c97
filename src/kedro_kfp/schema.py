"""Objects of Kubernetes against their OpenAPI schema, as the models of the package kubeflow-katib-api carry it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def schema_defects(model: Any, written: Mapping[str, Any]) -> Iterator[str]:
    """Where an object differs from its schema: values that are not allowed, and keys that the schema does not know."""
    from pydantic import ValidationError

    try:
        understood = model.from_dict(dict(written)).to_dict()
    except (ValidationError, ValueError) as error:
        yield str(error)
        return
    except (AttributeError, TypeError) as error:  # the models take a list for an object as it comes
        yield f"a value is of the wrong kind: {error}"
        return
    yield from _lost(written, understood, "")


def _lost(written: Any, understood: Any, where: str) -> Iterator[str]:
    if isinstance(written, Mapping):
        for key, value in written.items():
            if not isinstance(understood, Mapping) or key not in understood:
                if value not in ({}, [], None):
                    yield f"{where}{key}: the schema has no such key"
            else:
                yield from _lost(value, understood[key], f"{where}{key}.")
    elif isinstance(written, list) and isinstance(understood, list):
        for number, (one, other) in enumerate(zip(written, understood, strict=False)):
            yield from _lost(one, other, f"{where}{number}.")


def pod_of(name: str, container: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The pod that Kubeflow would make of an executor, as far as the file decides it."""
    resources = container.get("resources", {})
    limits = {"cpu": resources.get("resourceCpuLimit"), "memory": resources.get("resourceMemoryLimit")}
    if "accelerator" in resources:
        limits[resources["accelerator"]["resourceType"]] = resources["accelerator"]["resourceCount"]
    claims, empty = told.get("pvcMount", []), told.get("emptyDirMounts", [])
    secrets = told.get("secretAsVolume", [])
    spec = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(told["activeDeadlineSeconds"]) if "activeDeadlineSeconds" in told else None,
        "nodeSelector": told.get("nodeSelector", {}).get("labels", {}),
        "tolerations": told.get("tolerations", []),
        "affinity": {"nodeAffinity": _affinity(told.get("nodeAffinity", []))},
        "imagePullSecrets": [{"name": secret["secretName"]} for secret in told.get("imagePullSecret", [])],
        "volumes": [
            *({"name": one["constant"], "persistentVolumeClaim": {"claimName": one["constant"]}} for one in claims),
            *({"name": one["volumeName"], "emptyDir": _picked(one, "medium", "sizeLimit")} for one in empty),
            *({"name": one["secretName"], "secret": _picked(one, "secretName", "optional")} for one in secrets),
        ],
        "containers": [
            {
                **_picked(container, "image", "command", "args"),
                "name": "main",
                "imagePullPolicy": told.get("imagePullPolicy", "IfNotPresent"),
                "resources": {"limits": limits, "requests": limits},
                "securityContext": _security(told.get("securityContext", {})),
                "env": [*container.get("env", []), *_secret_variables(told)],
                "volumeMounts": [
                    *({"name": one["constant"], **_picked(one, "mountPath", "subPath")} for one in claims),
                    *({"name": one["volumeName"], **_picked(one, "mountPath")} for one in empty),
                    *({"name": one["secretName"], **_picked(one, "mountPath")} for one in secrets),
                ],
            }
        ],
    }
    metadata = {"name": name, "labels": told.get("podMetadata", {}).get("labels", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _affinity(terms: list[dict[str, Any]]) -> dict[str, Any]:
    required = [{"matchExpressions": term["matchExpressions"]} for term in terms if "weight" not in term]
    preferred = [
        {"weight": int(term["weight"]), "preference": {"matchExpressions": term["matchExpressions"]}}
        for term in terms
        if "weight" in term
    ]
    made: dict[str, Any] = {}
    if required:
        made["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": required}
    if preferred:
        made["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return made


def _security(told: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {key: int(told[key]) for key in ("runAsUser", "runAsGroup") if key in told}  # 64 bits: text in JSON
    return {**numbers, **_picked(told, "runAsNonRoot")}


def _secret_variables(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": one["envVar"], "valueFrom": {"secretKeyRef": {"name": secret["secretName"], "key": one["secretKey"]}}}
        for secret in told.get("secretAsEnv", [])
        for one in secret["keyToEnv"]
    ]


def _picked(given: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: given[key] for key in keys if key in given}
