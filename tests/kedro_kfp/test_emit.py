"""The compiled file: what Kubeflow is told of each step, and what never stands in it."""

import re
from dataclasses import replace

import pytest
import yaml
from kedro.pipeline import Node, Pipeline
from toy_kedro import toy_catalog, toy_settings

from kedro_kfp.datasets import read_facts
from kedro_kfp.emit import compile_plan
from kedro_kfp.plan import make_plan
from kedro_kfp.settings import read_settings


def toy_plan(settings):
    nodes = [
        Node(lambda rows: (rows, rows), "params:rows", ["shards", "shard_names"], name="write"),
        Node(
            lambda shards, shard: shards,
            ["shards", "params:shard"],
            "squares",
            name="square",
            tags=["fanout.shard_names", "res.heavy"],
        ),
        Node(lambda squares, names: squares, ["squares", "shard_names"], "metrics", name="total"),
        Node(lambda metrics: metrics, "metrics", "report", name="page"),
    ]
    pipeline = Pipeline(nodes)
    stored = [name for name in pipeline.datasets() if not name.startswith("params:")]
    return make_plan("spine", pipeline, read_facts(stored, toy_catalog()), settings)


def written(folder, params=None, **changed):
    settings = read_settings(toy_settings(**{"steps": {}, **changed}))
    file = folder / "pipeline.yaml"
    compile_plan(toy_plan(settings), settings, "cluster", file, params)
    return file


@pytest.fixture
def documents(tmp_path):
    return list(yaml.safe_load_all(written(tmp_path).read_text()))


def tasks_of(spec, component):
    return spec["components"][component]["dag"]["tasks"]


def platform_of(documents, step):
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{step}"]


def container_of(documents, step):
    return documents[0]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]


def test_a_fan_out_is_one_loop_over_the_list_that_its_source_writes(documents):
    tasks = tasks_of(documents[0], "comp-exit-handler-1")
    loop = tasks["for-loop-2"]
    assert set(tasks) == {"write", "for-loop-2", "total", "page"}
    assert loop["iteratorPolicy"] == {"parallelismLimit": 2}
    assert loop["inputs"]["parameters"]["pipelinechannel--write-items"]["taskOutputParameter"] == {
        "outputParameterKey": "items",
        "producerTask": "write",
    }
    (square,) = tasks_of(documents[0], loop["componentRef"]["name"]).values()
    assert square["inputs"]["parameters"]["item"] == {
        "componentInputParameter": "pipelinechannel--write-items-loop-item"
    }
    assert sorted(tasks["total"]["dependentTasks"]) == ["for-loop-2", "write"], (
        "a step after a loop waits for all of it"
    )
    assert tasks["page"]["dependentTasks"] == ["total"]


def test_the_file_does_not_grow_with_what_is_fanned_out_over(tmp_path):
    few = written(tmp_path, params={"rows": 12, "shards": 3}).read_text()
    many = written(tmp_path, params={"rows": 12, "shards": 3000000}).read_text()
    assert len(many) - len(few) == 2 * len("000000"), "the default of params, and the comment that repeats it"


def test_a_step_is_told_its_nodes_environment_parameters_item_and_list(documents):
    write, square = container_of(documents, "write"), container_of(documents, "square")
    assert square["command"] == ["python3", "-m", "kedro_kfp.step"]
    flags = " ".join(square["args"])
    for part in (
        "--step square --pipeline spine --nodes square",
        "--env {{$.inputs.parameters['env']}} --params {{$.inputs.parameters['params']}}",
        "--set run_id {{$.inputs.parameters['run']}}",
        "--outcome data/outcomes {{$.inputs.parameters['run']}}",
        "--item shard {{$.inputs.parameters['item']}}",
    ):
        assert part in flags
    assert "--list shard_names {{$.outputs.parameters['items'].output_file}}" in " ".join(write["args"])
    assert "--item" not in write["args"]
    assert "--list" not in square["args"]


def test_the_run_s_id_reaches_every_container_as_the_input_that_the_cluster_fills_in(documents):
    """The driver replaces it where it is the constant value of a task's input, and nowhere else."""
    spec = documents[0]
    loop = tasks_of(spec, "comp-exit-handler-1")["for-loop-2"]["componentRef"]["name"]
    tasks = {
        **spec["root"]["dag"]["tasks"],
        **tasks_of(spec, "comp-exit-handler-1"),
        **tasks_of(spec, loop),
    }
    for step in ("write", "square", "total", "page", "outcome"):
        given = tasks[step]["inputs"]["parameters"]["run"]
        assert given == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}, step
        component = spec["components"][f"comp-{step}"]
        assert component["inputDefinitions"]["parameters"]["run"]["parameterType"] == "STRING"
        assert "{{$.inputs.parameters['run']}}" in container_of(documents, step)["args"]
        assert "pipeline_job" not in str(container_of(documents, step))


def test_artifacts_reach_kubeflow_s_pages(documents):
    kinds = {
        (step, name): artifact["artifactType"]["schemaTitle"]
        for step in ("total", "page")
        for name, artifact in documents[0]["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"].items()
    }
    assert kinds == {("total", "metrics"): "system.Metrics", ("page", "report"): "system.HTML"}
    total, page = (" ".join(container_of(documents, step)["args"]) for step in ("total", "page"))
    assert "--metrics metrics metrics total,by_shard.* --executor-input {{$}}" in total
    assert "--text report {{$.outputs.artifacts['report'].path}}" in page
    assert "--executor-input" not in page


def test_every_placeholder_is_an_argument_of_its_own(documents):
    executors = documents[0]["deploymentSpec"]["executors"].values()
    arguments = [str(one) for executor in executors for one in executor["container"]["args"]]
    assert len([one for one in arguments if "{{" in one]) > 10
    assert [one for one in arguments if "{{" in one and not re.fullmatch(r"\{\{[^{}]+\}\}", one)] == []


def test_pods_get_what_their_profile_says(documents):
    square, heavy = container_of(documents, "square"), platform_of(documents, "square")
    limits = square["resources"]
    assert (limits["resourceCpuLimit"], limits["resourceMemoryLimit"], limits["resourceCpuRequest"]) == (
        "4",
        "16Gi",
        "4",
    )
    assert (limits["accelerator"]["resourceType"], limits["accelerator"]["resourceCount"]) == ("nvidia.com/gpu", "1")
    assert heavy["emptyDirMounts"] == [
        {"medium": "Memory", "mountPath": "/dev/shm", "sizeLimit": "2Gi", "volumeName": "shm"},
        {"mountPath": "/tmp", "sizeLimit": "1Gi", "volumeName": "scratch-0"},
    ]
    assert heavy["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert heavy["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    required, preferred = heavy["nodeAffinity"]
    assert required == {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
    assert preferred == {"matchExpressions": [{"key": "spot", "operator": "DoesNotExist"}], "weight": 50.0}
    assert heavy["activeDeadlineSeconds"] == "600"
    light = platform_of(documents, "write")
    assert not {"nodeSelector", "tolerations", "nodeAffinity"} & set(light)
    assert [one["mountPath"] for one in light["emptyDirMounts"]] == ["/tmp"]
    assert "accelerator" not in container_of(documents, "write")["resources"]


def test_every_pod_gets_volumes_secrets_labels_and_environment_and_no_secret_s_value(documents):
    for step in ("write", "square", "total", "page", "outcome"):
        platform = platform_of(documents, step)
        (volume,), (secret,) = platform["pvcMount"], platform["secretAsEnv"]
        assert (volume["constant"], volume["mountPath"]) == ("toy-data", "/home/toy/data")
        assert secret["secretName"] == "toy-s3"
        assert {one["secretKey"]: one["envVar"] for one in secret["keyToEnv"]} == {
            "access": "AWS_ACCESS_KEY_ID",
            "secret": "AWS_SECRET_ACCESS_KEY",
        }
        assert platform["podMetadata"]["labels"] == {"team": "toys", "kedro-kfp/step": step}
        assert [one["secretName"] for one in platform["imagePullSecret"]] == ["registry"]
        assert platform["imagePullPolicy"] == "IfNotPresent"
        (files,) = platform["secretAsVolume"]
        assert (files["secretName"], files["mountPath"]) == ("toy-key", "/home/toy/secrets")
        assert platform["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10002", "runAsNonRoot": True}
        assert container_of(documents, step)["env"] == [{"name": "KEDRO_DISABLE_TELEMETRY", "value": "1"}]
        assert container_of(documents, step)["image"] == "registry.example/toy:1.0"


def test_without_a_block_about_security_pods_run_as_the_image_says(tmp_path):
    documents = list(yaml.safe_load_all(written(tmp_path, security=None, scratch=[]).read_text()))
    assert not {"securityContext", "emptyDirMounts"} & set(platform_of(documents, "write"))


def test_retries_and_caching_are_as_set_and_caching_is_off_unless_it_is_asked_for(documents, tmp_path):
    cached = next(yaml.safe_load_all(written(tmp_path, steps={"page": {"cache": True}}, run={}).read_text()))
    tasks = cached["root"]["dag"]["tasks"]
    assert tasks["page"]["cachingOptions"] == {"enableCache": True}
    tasks = tasks_of(documents[0], "comp-exit-handler-1")
    assert [tasks[step].get("cachingOptions", {}).get("enableCache", False) for step in tasks] == [False] * 4
    assert tasks["write"]["retryPolicy"]["maxRetryCount"] == 1
    retry = {"attempts": 3, "backoff_seconds": 20, "backoff_factor": 3}
    spec = yaml.safe_load_all(written(tmp_path, steps={"write": {"retry": retry}, "page": {"retry": {}}}).read_text())
    tasks = tasks_of(next(spec), "comp-exit-handler-1")
    policy = tasks["write"]["retryPolicy"]
    assert {**policy, "backoffMaxDuration": None} == {
        "maxRetryCount": 3, "backoffDuration": "20s", "backoffFactor": 3.0, "backoffMaxDuration": None
    }  # fmt: skip
    assert "retryPolicy" not in tasks["page"]


@pytest.mark.parametrize(
    ("timeout", "deadline", "most"),
    [
        (3600, None, 365 * 86_400),
        (3600, 7200, 4 * 3600 + 20 + 60 + 180),
        (3600, 604_800, 604_800),
        (None, 604_800, 604_800),
        (None, None, 365 * 86_400),
    ],
)
def test_every_attempt_may_take_its_whole_time(tmp_path, timeout, deadline, most):
    """Argo's `backoff.maxDuration` counts from the first attempt: after it, nothing is tried again."""
    retry = {"attempts": 3, "backoff_seconds": 20, "backoff_factor": 3}
    profiles = {**toy_settings()["profiles"], "default": {"retry": retry, "timeout_seconds": timeout}}
    spec = next(
        yaml.safe_load_all(written(tmp_path, profiles=profiles, run={"deadline_seconds": deadline}).read_text())
    )
    assert spec["root"]["dag"]["tasks"]["write"]["retryPolicy"]["backoffMaxDuration"] == f"{most}s"


def test_the_exit_handler_runs_whatever_happened_and_a_run_has_its_limits(documents, tmp_path):
    last = documents[0]["root"]["dag"]["tasks"]["outcome"]
    assert last["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert last["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    outcome = container_of(documents, "outcome")
    assert outcome["command"][-1] == "kedro_kfp.outcome"
    assert outcome["args"][:2] == ["--folder", "data/outcomes"]
    assert documents[1]["platforms"]["kubernetes"]["pipelineConfig"] == {
        "activeDeadlineSeconds": 7200,
        "resourceTtlOnCompletion": 86400,
    }
    plain = next(yaml.safe_load_all(written(tmp_path, run={}).read_text()))
    assert set(plain["root"]["dag"]["tasks"]) == {"write", "for-loop-1", "total", "page"}
    assert "--set" not in plain["deploymentSpec"]["executors"]["exec-write"]["container"]["args"]
    assert "pipeline_job" not in str(plain), "nobody asks for the run's id"
    assert "--outcome" not in str(plain)


def test_parameters_are_json_text_and_the_environment_can_be_chosen_for_a_run(tmp_path):
    params = {"rate": 1.0, "seed": 2**60 + 1, "ranks": [1, 2], "text": "a,b='c'\n{{$}}"}
    inputs = next(yaml.safe_load_all(written(tmp_path, params).read_text()))["root"]["inputDefinitions"]["parameters"]
    assert {name: one["parameterType"] for name, one in inputs.items()} == {"params": "STRING", "env": "STRING"}
    assert yaml.safe_load(inputs["params"]["defaultValue"]) == params
    assert '"rate": 1.0' in inputs["params"]["defaultValue"]
    assert str(2**60 + 1) in inputs["params"]["defaultValue"]
    assert inputs["env"]["defaultValue"] == "cluster"


def test_compiling_repeats_to_the_byte_and_a_failure_leaves_the_old_file(tmp_path):
    file = written(tmp_path)
    first = file.read_bytes()
    assert written(tmp_path).read_bytes() == first
    settings = read_settings(toy_settings(steps={}))
    plan = toy_plan(settings)
    broken = replace(plan, steps=(replace(plan.steps[0], needs=("nowhere",)), *plan.steps[1:]))
    with pytest.raises(KeyError, match="nowhere"):
        compile_plan(broken, settings, "cluster", file)
    assert file.read_bytes() == first
    assert [one.name for one in tmp_path.iterdir()] == ["pipeline.yaml"]
