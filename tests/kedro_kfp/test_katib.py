"""The Katib Experiment: schema-checked, and its trial does what Katib asks of it."""

import json
import re

import pytest
import yaml
from toy_kedro import run_in, toy_settings

from kedro_kfp.errors import CompiledFileError, SettingsError
from kedro_kfp.katib import make_experiment, write_experiment
from kedro_kfp.project import read_project
from kedro_kfp.settings import read_settings


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
    assert spec["objective"] == {"type": "minimize", "objectiveMetricName": "total"}
    assert (spec["maxTrialCount"], spec["parallelTrialCount"]) == (9, 3)


def test_a_trial_s_pod_is_the_step_s_and_runs_with_the_values_that_katib_writes_into_it(project, experiment):
    template = experiment["spec"]["trialTemplate"]
    text = json.dumps(template["trialSpec"])
    for name, value in {"rows": "6", "fault_weight": "0.25", "fault_shard": "2", "trial": "toy-finish-x1"}.items():
        assert name in {one["name"] for one in template["trialParameters"]}
        text = text.replace(f"${{trialParameters.{name}}}", value)  # as Katib does, on the manifest's text
    assert "${" not in text
    job = json.loads(text)["spec"]
    (main,) = job["template"]["spec"]["containers"]
    assert (main["name"], main["image"]) == (template["primaryContainerName"], "registry.example/toy:1.0")
    assert main["resources"]["limits"] == {"cpu": "500m", "memory": "512Mi"}
    assert job["template"]["spec"]["serviceAccountName"] == "toy-runner"
    flags = " ".join(main["args"])
    assert "--set run_id toy-finish-x1" in flags
    assert '--pick fault.shard [null, "s1", ["s0", "it\'s"]] 2' in flags

    earlier = ["--step", "s", "--pipeline", "__default__", "--nodes", "write_shards,square_numbers", "--env", "base"]
    assert run_in(project, "-m", "kedro_kfp.step", *earlier).returncode == 0
    trial = run_in(project, *main["command"][1:], *main["args"])
    assert trial.returncode == 0, trial.stderr
    assert re.search(r"^total=506$", trial.stdout, re.MULTILINE)


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
        other = type(read)(**{**vars(read), "settings": read_settings(toy_settings(**missing))})
        with pytest.raises(SettingsError, match=says):
            make_experiment(other, {})


def test_an_experiment_against_the_schema_is_not_written(project, monkeypatch):
    import kedro_kfp.katib

    made = make_experiment(read_project(project, "cluster"), {})
    made["spec"]["maxTrialCount"] = "nine"
    made["spec"]["paralelTrialCount"] = 3
    monkeypatch.setattr(kedro_kfp.katib, "make_experiment", lambda *_: made)
    with pytest.raises(CompiledFileError, match="maxTrialCount"):
        write_experiment(read_project(project, "cluster"), {}, project / "katib.yaml")
    assert not (project / "katib.yaml").exists()
