"""A compiled file is sound, and each way in which it can be unsound is found."""

import re

import pytest
import yaml
from repository import ROOT
from toy_kedro import run_in

from kedro_kfp.compiled import read_compiled
from kedro_kfp.errors import CompiledFileError
from kedro_kfp.schema import pod_of
from kedro_kfp.validate import validate

SPEC, PLATFORM = 0, 1


def test_what_compile_writes_is_sound(compiled):
    checks = validate(compiled, strict=True)
    assert checks.done == (
        "strict parse as a KFP v2 pipeline",
        "own rules on 4 containers",
        "pods by the OpenAPI schema of Kubernetes",
    )
    assert checks.left_out == ()


def test_a_check_whose_package_is_missing_is_said_and_is_an_error_where_nothing_may_be_left_out(compiled, project):
    def run(*flags):
        code = (
            "import sys; sys.modules['kubeflow_katib_api'] = None; from kedro.framework.cli.cli import main;"
            f"sys.argv = ['kedro', 'kubeflow', *{flags!r}]; main()"
        )
        return run_in(project, "-c", code)

    loose = run("validate", str(compiled))
    assert loose.returncode == 0, loose.stderr
    assert "NOT checked: pods by the OpenAPI schema of Kubernetes: kubeflow-katib-api is not installed" in loose.stderr
    assert loose.stdout.strip().endswith("is sound as far as it was checked")
    strict = run("validate", str(compiled), "--strict")
    assert strict.returncode == 1
    assert "kubeflow-katib-api is not installed" in strict.stderr
    assert "is sound" not in strict.stdout


def container(documents, step="square"):
    return documents[SPEC]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]


def told(documents, step="square"):
    return documents[PLATFORM]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{step}"]


def tasks(documents):
    return documents[SPEC]["components"]["comp-exit-handler-1"]["dag"]["tasks"]


BROKEN = [
    (lambda d: d[SPEC].update(pipelinInfo={}), "the specification: Message type"),
    (lambda d: d[PLATFORM].update(plattforms={}), "the platform: Message type"),
    (lambda d: container(d).update(imagge="x"), "exec-square: "),
    (lambda d: told(d).update(imagePulPolicy="Always"), 'exec-square on Kubernetes: .*"imagePulPolicy"'),
    (lambda d: container(d).update(image="registry.example/toy"), "exec-square: the image .* is not pinned"),
    (lambda d: container(d)["resources"].pop("resourceMemoryLimit"), "exec-square: it has no resourceMemoryLimit"),
    (lambda d: container(d)["args"].append("a={{$.inputs.parameters['item']}}"), "joins a placeholder to text"),
    (lambda d: container(d)["args"].append("{{$.pipeline_job_uuid}}"), "nobody replaces .*pipeline_job_uuid"),
    (lambda d: container(d)["command"].append("{{workflow.uid}}"), "nobody replaces '{{workflow.uid}}'"),
    (lambda d: container(d).update(env=[{"name": "A", "value": "{{$.pipeline_task_name}}"}]), "nobody replaces"),
    (
        lambda d: tasks(d)["finish"]["dependentTasks"].append("nobody"),
        "/finish: it waits for 'nobody'",
    ),
    (lambda d: tasks(d).update({"Finish_": tasks(d)["finish"]}), "Finish_: the name is no DNS label"),
    (lambda d: d[SPEC]["components"].pop("comp-finish"), "it runs 'comp-finish', which the file does not have"),
    (lambda d: d[SPEC]["components"]["comp-finish"].update(executorLabel="x"), "its executor 'x' is missing"),
    (lambda d: d[SPEC]["pipelineInfo"].update(description="x" * 1_000_000), "clusters keep no more than about"),
    (lambda d: told(d).update(imagePullPolicy="Sometimes"), "exec-square: .*Sometimes|exec-square: .*imagePullPolicy"),
    (lambda d: told(d)["tolerations"][0].update(effect="Sometimes"), "exec-square: .*effect"),
    (lambda d: told(d)["securityContext"].update(runAsUsr=1), 'exec-square on Kubernetes: .*"runAsUsr"'),
]


@pytest.mark.parametrize(("break_it", "says"), BROKEN)
def test_a_defect_is_found_and_named(compiled, tmp_path, break_it, says):
    documents = list(yaml.safe_load_all(compiled.read_text()))
    break_it(documents)
    file = tmp_path / "broken.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    with pytest.raises(CompiledFileError) as caught:
        validate(file)
    assert any(re.search(says, defect, re.DOTALL) for defect in caught.value.defects), caught.value


def test_the_pod_that_is_checked_is_the_one_that_the_file_asks_for(compiled):
    containers = {name: (given, kubernetes) for name, given, kubernetes in read_compiled(compiled).containers()}
    pod = pod_of("square", *containers["exec-square"])
    spec, main = pod["spec"], pod["spec"]["containers"][0]
    assert main["image"] == "registry.example/toy:1.0"
    assert main["resources"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    assert {one["name"] for one in main["env"]} == {
        "KEDRO_DISABLE_TELEMETRY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
    }  # fmt: skip
    assert {one["name"]: one["mountPath"] for one in main["volumeMounts"]} == {
        "toy-data": "/home/toy/data", "shm": "/dev/shm", "scratch-0": "/tmp",
        "toy-key": "/home/toy/secrets",
    }  # fmt: skip
    assert {one["name"] for one in spec["volumes"]} == {"toy-data", "shm", "scratch-0", "toy-key"}
    assert {"name": "toy-key", "secret": {"secretName": "toy-key", "optional": False}} in spec["volumes"]
    assert main["securityContext"] == {"runAsUser": 10001, "runAsGroup": 10002, "runAsNonRoot": True}
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["activeDeadlineSeconds"] == 600
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    affinity = spec["affinity"]["nodeAffinity"]
    assert len(affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]) == 1
    assert affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["weight"] == 50
    assert pod["metadata"]["labels"] == {"team": "toys", "kedro-kfp/step": "square"}


def test_a_key_that_the_schema_of_kubernetes_does_not_know_is_named():
    from kubeflow_katib_api import models

    from kedro_kfp.schema import schema_defects

    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    good = {**pod, "spec": {"containers": [{"name": "main", "image": "x:1", "imagePullPolicy": "Always"}]}}
    bad = {**pod, "spec": {"containers": [{"name": "main", "image": "x:1", "imagePulPolicy": "Always"}]}}
    assert list(schema_defects(models.IoK8sApiCoreV1Pod, good)) == []
    assert list(schema_defects(models.IoK8sApiCoreV1Pod, bad)) == [
        "spec.containers.0.imagePulPolicy: the schema has no such key"
    ]
    for wrong in ({"spec": {"containers": "main"}}, {"spec": {"overhead": ["cpu"], "containers": []}}):
        assert len(list(schema_defects(models.IoK8sApiCoreV1Pod, {**pod, **wrong}))) == 1


def test_the_schema_s_package_is_one_of_the_extra_s():
    assert "kubeflow-katib-api" in (ROOT / "pyproject.toml").read_text()
