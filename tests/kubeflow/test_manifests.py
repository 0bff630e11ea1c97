"""The manifests by the schema of Kubernetes, in step with kubeflow.yml, and with no right and no value too many."""

import json
import re
from types import SimpleNamespace

import pytest
import yaml
from repository import ROOT

from kedro_kfp.schema import schema_defects
from kedro_kfp.settings import Client

FILES = [*sorted((ROOT / "kubeflow/manifests").glob("*.yaml")), ROOT / "kubeflow/secrets.template.yaml"]
OBJECTS = [one for file in FILES for one in yaml.safe_load_all(file.read_text())]
SETTINGS = yaml.safe_load((ROOT / "conf/cluster/kubeflow.yml").read_text())
RUNBOOK = (ROOT / "kubeflow/README.md").read_text()
IN_KATIB = {"Namespace", "ResourceQuota", "PersistentVolumeClaim", "Secret", "ServiceAccount"}
"""Kinds in the schema that kedro_kfp checks pods by; the others are in the models of the client of Kubernetes."""


class ClientModel:
    """A model of the client of Kubernetes, in the form that `schema_defects` asks for."""

    def __init__(self, kind):
        from kubernetes.client import ApiClient

        self._api, self._kind, self._understood = ApiClient(), f"V1{kind}", None

    def from_dict(self, written):
        self._understood = self._api.deserialize(SimpleNamespace(data=json.dumps(written)), self._kind)
        return self

    def to_dict(self):
        return self._api.sanitize_for_serialization(self._understood)


def defects(written):
    from kubeflow_katib_api import models

    kind = written["kind"]
    model = getattr(models, f"IoK8sApiCoreV1{kind}") if kind in IN_KATIB else ClientModel(kind)
    return list(schema_defects(model, written))


def one(kind, name="imprint"):
    (found,) = [each for each in OBJECTS if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("written", OBJECTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_an_object_keeps_the_schema_and_its_place(written):
    assert defects(written) == []
    assert written["metadata"]["labels"]["app.kubernetes.io/part-of"] == "imprint"
    if written["kind"] != "Namespace":
        assert written["metadata"]["namespace"] == one("Namespace")["metadata"]["name"]


def test_all_kinds_are_there():
    kinds = {each["kind"] for each in OBJECTS}
    assert kinds == {*IN_KATIB, "Role", "RoleBinding", "Job"}
    assert len(OBJECTS) == 9


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("PersistentVolumeClaim", "imprint-data", lambda it: it["spec"].update(acessModes=["ReadWriteMany"])),
        ("PersistentVolumeClaim", "imprint-data", lambda it: it["spec"].update(accessModes="ReadWriteMany")),
        ("Role", "imprint", lambda it: it["rules"][0].update(verb=["get"])),
        ("Role", "imprint", lambda it: it["rules"][0].pop("verbs")),
        ("RoleBinding", "imprint", lambda it: it.pop("roleRef")),
        ("Job", "imprint-data-owner", lambda it: it["spec"]["template"]["spec"]["containers"][0].update(imagee="x")),
        ("Secret", "imprint-s3", lambda it: it.update(stringDatas={"a": "b"})),
        ("Namespace", "imprint", lambda it: it["metadata"].update(label={"a": "b"})),
        ("ResourceQuota", "imprint", lambda it: it["spec"].update(hard=["200 pods"])),
    ],
)
def test_an_object_that_breaks_the_schema_is_noticed(kind, name, change):
    broken = json.loads(json.dumps(one(kind, name)))
    change(broken)
    assert defects(broken) != []


def too_many(rules):
    """Rights that a step's pod has no use for."""
    for rule in rules:
        resources, verbs = set(rule["resources"]), set(rule["verbs"])
        if "*" in resources | verbs | set(rule["apiGroups"]):
            yield f"everything: {rule}"
        if resources & {"secrets", "configmaps"} and not rule.get("resourceNames"):
            yield f"every one of {resources}"
        if verbs & {"delete", "deletecollection", "escalate", "bind", "impersonate"} or "pods/exec" in resources:
            yield f"more than reporting: {rule}"


def test_pods_have_the_least_rights():
    rules = one("Role")["rules"]
    assert list(too_many(rules)) == []
    assert len(rules) == 5
    for wrong in (
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": ["*"], "resources": ["pods"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]},
    ):
        assert list(too_many([wrong])) != []
    (subject,) = one("RoleBinding")["subjects"]
    assert (subject["kind"], subject["name"]) == ("ServiceAccount", SETTINGS["service_account"])


def test_kubeflow_yml_names_what_the_manifests_make():
    claims = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "PersistentVolumeClaim"}
    secrets = {each["metadata"]["name"] for each in OBJECTS if each["kind"] == "Secret"}
    assert {volume["claim"] for volume in SETTINGS["volumes"]} <= claims
    assert {each["name"] for each in (*SETTINGS["secrets"], *SETTINGS["secret_files"])} <= secrets
    assert SETTINGS["service_account"] == one("ServiceAccount")["metadata"]["name"]
    (container,) = one("Job", "imprint-data-owner")["spec"]["template"]["spec"]["containers"]
    security = SETTINGS["security"]
    assert container["image"] == SETTINGS["image"]
    assert f"{security['run_as_user']}:{security['run_as_group']}" in container["command"]


def namespaces(written):
    """Every namespace that an object names."""
    if isinstance(written, dict):
        own = {written["namespace"]} if "namespace" in written else set()
        return own.union(*map(namespaces, written.values()))
    return set().union(*map(namespaces, written)) if isinstance(written, list) else set()


def test_pods_run_where_their_volume_account_and_secrets_are():
    where = Client(**SETTINGS["client"]).pods_namespace
    assert namespaces(OBJECTS) == {one("Namespace")["metadata"]["name"]} == {where}
    named = re.findall(r"kubectl -n (\S+)", RUNBOOK)
    assert set(named) == {where}
    assert len(named) > 3


def test_without_profiles_everything_lies_where_pipelines_is_installed():
    """As the runbook's command for that case makes the files."""
    ((old, new),) = re.findall(r"sed 's/(.+?)\$/(.+?)/'", RUNBOOK)
    alone = Client(**{**SETTINGS["client"], "user_namespace": None})
    for name in ("access", "volume"):
        text = (ROOT / f"kubeflow/manifests/{name}.yaml").read_text()
        changed = list(yaml.safe_load_all(re.sub(f"{old}$", new, text, flags=re.MULTILINE)))
        assert namespaces(changed) == {alone.pods_namespace} == {"kubeflow"}


def test_the_job_that_gives_the_volume_away_ends_where_a_mesh_adds_its_own_container():
    metadata = one("Job", "imprint-data-owner")["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {"sidecar.istio.io/inject": "false"}


def quota_defects(hard):
    """Bounds that end in a run which waits for ever."""
    if counted := [key for key in hard if key.startswith("count/")]:
        yield f"{counted} count pods that have ended, too"
    fan_outs = [one["parallelism"] for one in SETTINGS["fan_outs"].values()]
    if int(hard.get("pods", 0)) < 2 * max(fan_outs):
        yield "there is no room for the pods of a fan-out and those that start them"
    cards = SETTINGS["profiles"]["train"]["accelerator"]
    if int(hard[f"requests.{cards['type']}"]) < cards["count"] * max(fan_outs):
        yield "fewer cards than tasks at a time ask for"


def test_the_quota_bounds_what_is_at_work_and_lets_a_run_go_on_whatever_has_ended():
    hard = one("ResourceQuota")["spec"]["hard"]
    assert list(quota_defects(hard)) == []
    for wrong in ({"count/pods": "200"}, {"pods": "16"}, {"requests.nvidia.com/gpu": "1"}):
        assert len(list(quota_defects({**hard, **wrong}))) == 1


def test_katib_may_collect_what_trials_print():
    labels = one("Namespace")["metadata"]["labels"]
    assert labels["katib.kubeflow.org/metrics-collector-injection"] == "enabled"


def test_the_template_of_secrets_has_names_and_no_values():
    values = {each["metadata"]["name"]: each["stringData"] for each in yaml.safe_load_all(FILES[-1].read_text())}
    assert set(values["imprint-s3"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}
    assert set(values["imprint-pseudonyms"]) == {"pseudonym.key"}
    assert {value for keys in values.values() for value in keys.values()} == {""}
    assert not any("data" in each for each in yaml.safe_load_all(FILES[-1].read_text()))


def test_only_the_job_that_gives_the_volume_away_starts_as_root_and_may_do_nothing_else():
    (container,) = one("Job", "imprint-data-owner")["spec"]["template"]["spec"]["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert container["command"][0] == "chown"
    assert [each["kind"] for each in OBJECTS if "securityContext" in json.dumps(each)] == ["Job"]
