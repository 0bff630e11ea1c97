"""The Katib Experiment: schema-checked, and its trial does what Katib asks of it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from toy_kedro import kedro, run_in, toy_settings

from kedro_kfp.errors import CompiledFileError, MissingPackageError, SettingsError
from kedro_kfp.katib import make_experiment, write_experiment
from kedro_kfp.project import read_project
from kedro_kfp.settings import read_settings

BY_RUN = """
metrics: {type: json.JSONDataset, filepath: "data/tried/${runtime_params:run_id,home}.json"}
report: {type: text.TextDataset, filepath: "data/tried/${runtime_params:run_id,home}.html"}
"""


@pytest.fixture
def project(project):
    """The toy, with the outputs of its trial under the run's id."""
    (project / "conf/cluster/catalog.yml").write_text(BY_RUN)
    return project


@pytest.fixture
def experiment(project):
    output = project / "kubeflow/katib.yaml"
    checked = write_experiment(read_project(project, "cluster"), {"shards": 4}, output)
    assert checked == "checked by Katib's schema and the pod's"
    return yaml.safe_load(output.read_text())


def changed(project, **katib):
    """The toy as it is read with another block katib."""
    file = project / "conf/cluster/kubeflow.yml"
    written = toy_settings()
    file.write_text(yaml.safe_dump({**written, "katib": {**written["katib"], **katib}}))
    return read_project(project, "cluster")


def test_the_space_is_that_of_the_kedro_parameters(experiment):
    assert experiment["spec"]["parameters"] == [
        {"name": "rows", "parameterType": "int", "feasibleSpace": {"min": "3", "max": "30"}},
        {
            "name": "fault_weight",
            "parameterType": "double",
            "feasibleSpace": {"min": "0.0001", "max": "0.5", "distribution": "logUniform"},
        },
        {"name": "fault_shard", "parameterType": "categorical", "feasibleSpace": {"list": ["0", "1", "2"]}},
    ]
    spec = experiment["spec"]
    assert spec["algorithm"]["algorithmName"] == "tpe"
    assert spec["objective"] == {
        "type": "minimize",
        "objectiveMetricName": "total",
        "metricStrategies": [{"name": "total", "value": "latest"}],
    }
    assert (spec["maxTrialCount"], spec["parallelTrialCount"]) == (9, 3)


VALUES = {"rows": "6", "fault_weight": "0.25", "fault_shard": "2", "trial": "toy-finish-x1"}


def job_of_a_trial(experiment):
    """The Job that Katib makes of the template: values are written into its text."""
    text = json.dumps(experiment["spec"]["trialTemplate"]["trialSpec"])
    for name, value in VALUES.items():
        text = text.replace(f"${{trialParameters.{name}}}", value)
    return json.loads(text)["spec"]


def started(container, metrics):
    """What a container runs once Katib's collector of standard output is put into its pod, and Kubernetes starts it.

    Katib joins command and arguments by spaces into one line of shell, but for a leading `sh -c`; Kubernetes then reads
    `$$` as `$`, and puts variables' values for `$(NAME)`.
    """
    words = [*container["command"], *container["args"]]
    shell, words = (words[:2], words[2:]) if words[:2] == ["sh", "-c"] else (["sh", "-c"], words)
    line = " ".join([*words, f"1>{metrics} 2>&1", "&&", f"echo completed > {metrics.parent}/$$$$.pid"])
    variables = {"HOME": "/tmp"}
    expanded = re.sub(
        r"\$(\$|\((\w+)\))", lambda it: "$" if it[1] == "$" else variables.get(it[2], it[0]), line, flags=re.ASCII
    )
    return [*shell, expanded]


def test_a_trial_s_pod_is_the_step_s_and_runs_with_the_values_that_katib_writes_into_it(project, experiment, tmp_path):
    job = job_of_a_trial(experiment)
    template = experiment["spec"]["trialTemplate"]
    assert {one["name"] for one in template["trialParameters"]} == VALUES.keys()
    (main,) = job["template"]["spec"]["containers"]
    assert (main["name"], main["image"]) == (template["primaryContainerName"], "registry.example/toy:1.0")
    assert main["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"}
    assert job["template"]["spec"]["serviceAccountName"] == "toy-runner"

    earlier = ["--step", "s", "--pipeline", "__default__", "--nodes", "write_shards,square_numbers", "--env", "base"]
    assert run_in(project, "-m", "kedro_kfp.step", *earlier).returncode == 0
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = started(main, tmp_path / "metrics.log")
    trial = subprocess.run(command, cwd=project, env={**os.environ, "PATH": path}, check=False)
    said = (tmp_path / "metrics.log").read_text()
    assert trial.returncode == 0, said
    assert [pid.read_text() for pid in tmp_path.glob("*.pid")] == ["completed\n"]
    assert re.findall(r"([\w|-]+)\s*=\s*([+-]?\d*(?:\.\d+)?(?:[Ee][+-]?\d+)?)", said)[-1] == ("total", "506")


def test_no_shell_reads_anything_into_what_a_trial_is_told(project, tmp_path):
    wild = {"text": "a 'b' \"c\" $HOME $(HOME) $$ `id` ${trialParameters.rows} \\ ; rm -r *\n", "list": [["x", None]]}
    experiment = make_experiment(read_project(project, "cluster"), wild)
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    told = tmp_path / "told.json"
    python.write_text(f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(told)!r}, 'w'))\n")
    python.chmod(0o700)
    (main,) = job_of_a_trial(experiment)["template"]["spec"]["containers"]
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    subprocess.run(started(main, tmp_path / "metrics.log"), env={"PATH": path}, check=True)

    told = json.loads(told.read_text())
    assert told[:6] == ["-m", "kedro_kfp.step", "--step", "finish", "--pipeline", "__default__"]
    assert json.loads(told[told.index("--params") + 1]) == wild
    assert told[told.index("--set") + 1 :][:2] == ["run_id", "toy-finish-x1"]
    assert told[told.index("--set-json") + 1 :][:2] == ["rows", "6"]
    key, choices, number = told[told.index("--pick") + 1 :][:3]
    assert (key, json.loads(choices), number) == ("fault.shard", [None, "s1", ["s0", "it's"]], "2")
    assert told[-4:] == ["--objective", "total", "metrics", "total"]


@pytest.mark.parametrize(
    ("katib", "says"),
    [
        ({"step": "nobody"}, r"no step 'nobody'; allowed are \['write-shards', 'square', 'finish'\]"),
        ({"step": "square"}, "'square' fans out over 'shard_names'"),
        ({"parameters": {"rows": {"kind": "int", "source": "space.nothing"}}}, r"no parameter 'space\.nothing'"),
        ({"parameters": {"rows": {"kind": "int", "source": "rows"}}}, "must be a list, and is 12"),
        ({"parameters": {"rows": {"kind": "int", "source": "space.shards"}}}, r"must be \[least, greatest\]"),
    ],
)
def test_a_search_that_cannot_be_is_refused(project, katib, says):
    with pytest.raises(SettingsError, match=says):
        make_experiment(changed(project, **katib), {})


def test_trials_need_places_of_their_own(project):
    read = read_project(project, "cluster")
    for missing, says in (({"run": {}}, r"run\.run_id_parameter is not set"), ({"katib": None}, "no block katib")):
        other = replace(read, settings=read_settings(toy_settings(**missing)))
        with pytest.raises(SettingsError, match=says):
            make_experiment(other, {})


@pytest.mark.parametrize(
    ("catalog", "named"),
    [
        ("", ["metrics", "report"]),
        (BY_RUN.replace("/${runtime_params:run_id,home}.html", "/page.html"), ["report"]),
        (BY_RUN.replace("run_id", "other_id"), ["metrics", "report"]),
        (BY_RUN.partition("report")[0] + "report: {type: MemoryDataset}\n", []),
    ],
)
def test_outputs_that_all_trials_would_write_to_one_place_are_refused(project, catalog, named):
    (project / "conf/cluster/catalog.yml").write_text(catalog)
    read = read_project(project, "cluster", runtime_params={"rows": 5})
    if not named:
        assert make_experiment(read, {})["kind"] == "Experiment"
        return
    with pytest.raises(SettingsError, match=r"\$\{runtime_params:run_id\}") as caught:
        make_experiment(read, {})
    assert str(named) in str(caught.value)


def test_an_experiment_that_cannot_be_checked_is_said_to_be_so_and_is_an_error_where_that_matters(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "kubeflow_katib_api", None)
    monkeypatch.delitem(sys.modules, "kubeflow_katib_api.models", raising=False)
    read = read_project(project, "cluster")
    assert "NOT checked by Katib's schema" in write_experiment(read, {}, project / "katib.yaml")
    with pytest.raises(MissingPackageError, match="kubeflow-katib-api"):
        write_experiment(read, {}, project / "strict.yaml", strict=True)
    assert not (project / "strict.yaml").exists()


def test_a_dry_run_prints_the_experiment_and_writes_nothing(project):
    run = kedro(project, "kubeflow", "katib", "--env", "cluster", "--dry-run")
    assert run.returncode == 0, run.stderr
    shown = yaml.safe_load(run.stdout[run.stdout.index("apiVersion") :])
    assert shown == make_experiment(read_project(project, "cluster"), {})
    assert not (project / "kubeflow").exists()


@pytest.mark.parametrize(("client", "where"), [({"user_namespace": "toys"}, "toys"), ({}, "kubeflow")])
def test_trials_run_where_the_pipeline_s_pods_do(project, client, where):
    read = read_project(project, "cluster")
    there = replace(read, settings=read_settings(toy_settings(client=client)))
    assert make_experiment(there, {})["metadata"]["namespace"] == where


def test_an_experiment_against_the_schema_is_not_written(project, monkeypatch):
    import kedro_kfp.katib

    made = make_experiment(read_project(project, "cluster"), {})
    made["spec"]["maxTrialCount"] = "nine"
    made["spec"]["paralelTrialCount"] = 3
    monkeypatch.setattr(kedro_kfp.katib, "make_experiment", lambda *_: made)
    with pytest.raises(CompiledFileError, match="maxTrialCount"):
        write_experiment(read_project(project, "cluster"), {}, project / "katib.yaml")
    assert not (project / "katib.yaml").exists()
