"""`kedro kubeflow …` as its users type it, and the requests that reach a Kubeflow API."""

import itertools
import json
import subprocess
import sys
import tomllib
from threading import Thread
from types import SimpleNamespace

import pytest
import yaml
from kubeflow_api import Kubeflow
from repository import ROOT
from toy_kedro import kedro, run_in

from kedro_kfp.cluster import Cluster, client_arguments, content_version, six_fields
from kedro_kfp.compiled import read_compiled
from kedro_kfp.errors import LostSightError, RunError, SettingsError
from kedro_kfp.settings import Client, read_settings


def test_the_command_is_registered_and_imports_nothing_heavy():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared["kedro.project_commands"] == {"kubeflow": "kedro_kfp.cli:commands"}
    code = "import sys, kedro_kfp.cli; print(sorted({'kfp', 'kubernetes', 'pydantic', 'kedro'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_compile_dry_run_prints_the_plan_and_writes_nothing(project):
    run = kedro(project, "kubeflow", "compile", "--env", "cluster", "--dry-run", "--params", '{"rows": 5}')
    assert run.returncode == 0, run.stderr
    assert "square: square_numbers; one task for each of shard_names, 2 at a time; 4 CPU, 16Gi" in run.stdout
    assert not (project / "kubeflow").exists()


def test_a_refusal_is_the_message_and_no_traceback(project):
    (project / "conf/cluster/catalog.yml").write_text(
        "metrics: {type: json.JSONDataset, filepath: lost/metrics.json}\n"
    )
    run = kedro(project, "kubeflow", "compile", "--env", "cluster")
    assert run.returncode == 1
    assert "dataset 'metrics' of node 'total' lies at /home/toy/lost/metrics.json" in run.stderr
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["compile", "--env", "cluster", "--params", "[1]"], "--params '[1]' is neither a JSON object nor a file"),
        (["compile", "--env", "cluster", "--params", "{1}"], "--params is not JSON"),
        (
            ["compile", "--env", "cluster", "--params", '{"a": ["s3://me:se/cret@b/x"]}'],
            "--params: a.0 holds a URL with a user and a password",
        ),
        (["compile", "--env", "base"], "there is no kubeflow.yml"),
        (["validate", "nowhere.yaml"], "nowhere.yaml is not a pipeline"),
    ],
)
def test_what_a_command_cannot_use_is_said(project, command, says):
    run = kedro(project, "kubeflow", *command)
    assert run.returncode == 1
    assert says in " ".join(run.stderr.split())
    assert "se/cret" not in run.stderr


def test_without_kfp_a_command_says_what_to_install(project):
    code = (
        "import sys; sys.modules['kfp'] = None; from kedro.framework.cli.cli import main;"
        "sys.argv = ['kedro', 'kubeflow', 'compile', '--env', 'cluster']; main()"
    )
    run = run_in(project, "-c", code)
    assert run.returncode == 1
    assert "kfp kfp-kubernetes is not installed, and compiling needs it" in " ".join(run.stderr.split())


def test_parameters_may_come_from_a_file(project):
    (project / "params.json").write_text('{"rows": 7, "text": "a,b"}')
    run = kedro(project, "kubeflow", "compile", "--env", "cluster", "--params", "params.json", "-o", "made.yaml")
    assert run.returncode == 0, run.stderr
    inputs = read_compiled(project / "made.yaml").spec["root"]["inputDefinitions"]["parameters"]
    assert json.loads(inputs["params"]["defaultValue"]) == {"rows": 7, "text": "a,b"}
    assert inputs["env"]["defaultValue"] == "cluster"


def test_variables_of_the_shell_reach_pods_where_they_are_named_and_only_compiling_asks_for_them(project):
    file = project / "conf/cluster/kubeflow.yml"
    file.write_text(file.read_text() + "environment_from_shell: [KEDRO_CONFIG_PLACE]\n")
    compile_it = ("kubeflow", "compile", "--env", "cluster", "-o", "made.yaml")
    missing = kedro(project, *compile_it)
    assert missing.returncode == 1
    assert "['KEDRO_CONFIG_PLACE'] are not set" in missing.stderr
    assert kedro(project, *compile_it, KEDRO_CONFIG_PLACE="moon", KEDRO_CONFIG_OTHER="mars").returncode == 0
    text = (project / "made.yaml").read_text()
    assert "mars" not in text
    for _, container, _ in read_compiled(project / "made.yaml").containers():
        assert {"name": "KEDRO_CONFIG_PLACE", "value": "moon"} in container["env"]
    assert kedro(project, "kubeflow", "run-once", "made.yaml", "--env", "cluster", "--dry-run").returncode == 0


def test_parameters_of_a_run_lie_over_those_of_the_file(project, kubeflow):
    """What the file was compiled with stays, unless the run says otherwise."""
    own = {"rows": 7, "fault": {"shard": "s1", "times": 1}, "space": {"rows": [1, 2]}}
    made = kedro(project, "kubeflow", "compile", "--env", "cluster", "--params", json.dumps(own), "-o", "made.yaml")
    assert made.returncode == 0, made.stderr
    run = command(project, "run-once", "made.yaml", "--params", '{"fault": {"times": 2}, "space": {"rows": [3]}}')
    assert run.returncode == 0, run.stderr
    ((_, body, _),) = kubeflow.posted("/runs")
    sent = json.loads(json.loads(body)["runtime_config"]["parameters"]["params"])
    assert sent == {"rows": 7, "fault": {"shard": "s1", "times": 2}, "space": {"rows": [3]}}


@pytest.fixture
def kubeflow(project):
    """A running server, which the project's kubeflow.yml names."""
    api = Kubeflow()
    thread = Thread(target=api.server.serve_forever, daemon=True)
    thread.start()
    file = project / "conf/cluster/kubeflow.yml"
    written = yaml.safe_load(file.read_text())
    written["run"] |= {"name": "{pipeline}-{env}", "schedule_name": "{pipeline}-{env}"}
    written["client"] = {"host": api.host, "user_namespace": "toys", "token_variable": "TOY_TOKEN"}
    file.write_text(yaml.safe_dump(written))
    yield api
    api.server.shutdown()
    api.server.server_close()


def command(project, *arguments):
    return kedro(project, "kubeflow", *arguments, "--env", "cluster", TOY_TOKEN="moonshine", NO_PROXY="*")


@pytest.fixture
def cluster(kubeflow, project, monkeypatch):
    monkeypatch.setenv("TOY_TOKEN", "moonshine")
    monkeypatch.setenv("NO_PROXY", "*")
    return Cluster(read_settings(yaml.safe_load((project / "conf/cluster/kubeflow.yml").read_text())))


def test_run_once_waits_and_its_exit_code_follows_the_run(project, compiled, kubeflow):
    kubeflow.states = ["FAILED"]
    run = command(project, "run-once", str(compiled), "--wait", "--params", '{"rows": 5}', "--name", "tuesday")
    assert run.returncode == 1
    assert "run r1: FAILED" in run.stdout
    assert "run r1 ended as FAILED" in run.stderr
    ((_, body, headers),) = kubeflow.posted("/runs")
    sent = json.loads(body)
    assert (sent["display_name"], sent["experiment_id"], sent["service_account"]) == ("tuesday", "e1", "toy-runner")
    assert sent["runtime_config"]["parameters"] == {"params": '{"rows": 5}', "env": "cluster"}
    documents = list(yaml.safe_load_all(compiled.read_text()))
    assert sent["pipeline_spec"]["pipeline_spec"]["deploymentSpec"] == documents[0]["deploymentSpec"]
    assert set(sent["pipeline_spec"]["platform_spec"]["platforms"]) == {"kubernetes"}
    assert headers["authorization"] == "Bearer moonshine"
    assert "moonshine" not in run.stdout + run.stderr


def test_schedule_replaces_no_schedule_unless_it_is_told_to(project, compiled, kubeflow):
    run = command(project, "schedule", str(compiled), "--cron", "0 3 * * *")
    assert run.returncode == 0, run.stderr
    ((_, body, _),) = kubeflow.posted("/recurringruns")
    sent = json.loads(body)
    assert sent["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (sent["display_name"], sent["mode"]) == ("toy-cluster", "ENABLE")
    assert (sent["max_concurrency"], sent["no_catchup"]) == (1, True), "one run at a time, none made up for"

    kubeflow.schedules = [{"recurring_run_id": "s1", "display_name": "toy-cluster"}]
    refused = command(project, "schedule", str(compiled), "--cron", "0 3 * * *")
    assert refused.returncode == 1
    assert "there is a schedule 'toy-cluster' already (s1)" in refused.stderr
    assert len(kubeflow.posted("/recurringruns")) == 1
    replaced = command(project, "schedule", str(compiled), "--cron", "0 3 * * *", "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert [path for method, path, *_ in kubeflow.asked if method == "DELETE"] == ["/recurringruns/s1"]


@pytest.mark.parametrize("arguments", [["upload"], ["run-once"], ["schedule", "--cron", "0 3 * * *"]])
def test_a_dry_run_says_what_it_would_send_and_sends_nothing(project, compiled, kubeflow, arguments):
    run = command(project, arguments[0], str(compiled), *arguments[1:], "--dry-run")
    assert run.returncode == 0, run.stderr
    shown = "toy" if arguments == ["upload"] else "toy-cluster"
    assert shown in json.loads(run.stdout[run.stdout.index("{") :]).values()
    assert kubeflow.asked == []


def test_a_file_is_uploaded_once_whatever_the_number_of_versions(cluster, compiled, kubeflow):
    read = read_compiled(compiled)
    assert cluster.upload(read, None) == ("p1", "v1", True)
    ((query, body, headers),) = kubeflow.posted("/pipelines/upload")
    assert (query["name"], query["namespace"]) == (["toy"], ["toys"])
    assert headers["Content-Type"].startswith("multipart/form-data")
    assert compiled.read_bytes() in body
    ((query, body, _),) = kubeflow.posted("/pipelines/upload_version")
    assert (query["name"], query["pipelineid"]) == ([content_version(compiled)], ["p1"])
    kubeflow.versions.insert(0, {"pipeline_version_id": "v0", "display_name": "older"})
    assert cluster.upload(read, None) == ("p1", "v1", False), "found on the second page"
    assert cluster.upload(read, "named")[2]
    assert len(kubeflow.posted("/pipelines/upload")) == 1
    looked = [query for method, path, query, *_ in kubeflow.asked if (method, path) == ("GET", "/pipelines")]
    assert looked
    assert all(query["namespace"] == ["toys"] for query in looked), "where it is put; some look nowhere else"


def test_waiting_ends_with_a_run_that_somebody_cancels_and_after_its_time(cluster, kubeflow):
    kubeflow.states = ["PENDING", "RUNNING", "CANCELED"]
    assert cluster.wait("r1", timeout_seconds=60, poll_seconds=0) == "CANCELED"
    kubeflow.states = ["RUNNING"]
    with pytest.raises(LostSightError, match="run r1 is still RUNNING after 0 s, and goes on"):
        cluster.wait("r1", timeout_seconds=0, poll_seconds=0)


def test_a_poll_that_fails_between_two_ends_no_waiting(cluster, kubeflow):
    kubeflow.states = ["RUNNING", 503, 502, "RUNNING", "SUCCEEDED"]
    assert cluster.wait("r1", timeout_seconds=60, poll_seconds=0) == "SUCCEEDED"
    assert kubeflow.states == ["SUCCEEDED"]


def test_patience_is_counted_from_the_last_answer_not_from_the_run_s_begin(cluster, kubeflow, monkeypatch):
    seconds = itertools.count(step=100.0)  # seconds pass only where somebody looks at the clock
    monkeypatch.setattr(
        "kedro_kfp.cluster.time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda _: None)
    )
    kubeflow.states = [*["RUNNING"] * 9, 503, "SUCCEEDED"]
    assert cluster.wait("r1", timeout_seconds=1e9, patience_seconds=600) == "SUCCEEDED"


@pytest.mark.parametrize(("states", "patience"), [([503], 0), ([401], 300), ([404, "SUCCEEDED"], 300)])
def test_who_cannot_ask_any_more_is_told_that_the_run_goes_on(cluster, kubeflow, states, patience):
    """After a while of failing polls; and at once where the answer is that nobody may ask, which stays so."""
    kubeflow.states = states
    with pytest.raises(LostSightError, match=r"run r1 goes on, and was last PENDING: .*answered \d+") as caught:
        cluster.wait("r1", timeout_seconds=60, poll_seconds=0, patience_seconds=patience)
    assert caught.value.exit_code == 3


def test_an_api_that_is_gone_is_waited_for_and_the_command_s_exit_code_says_that_the_run_goes_on(
    project, compiled, kubeflow
):
    kubeflow.states = [401]
    run = command(project, "run-once", str(compiled), "--wait")
    assert run.returncode == 3
    assert "run r1 goes on" in run.stderr
    assert "Traceback" not in run.stderr


def test_listings_give_id_name_and_state(cluster, kubeflow, compiled):
    cluster.upload(read_compiled(compiled), None)
    kubeflow.schedules = [{"recurring_run_id": "s1", "display_name": "nightly", "status": "ENABLED"}]
    assert [line[:2] for line in cluster.listing("pipelines")] == [("p1", "toy")]
    assert list(cluster.listing("schedules")) == [("s1", "nightly", "ENABLED")]
    assert list(cluster.listing("runs")) == []


def test_an_api_that_refuses_or_is_not_there_is_named(cluster, kubeflow, compiled):
    kubeflow.refuse = (403, {"message": "no rights"})
    with pytest.raises(RunError, match=r"answered 403 Forbidden: .*no rights"):
        cluster.start(read_compiled(compiled), "x", {})
    kubeflow.server.shutdown()
    kubeflow.server.server_close()
    with pytest.raises(RunError, match="does not answer"):
        list(cluster.listing("pipelines"))


def test_credentials_come_from_the_environment_and_a_missing_one_is_named(monkeypatch):
    monkeypatch.setenv("COOKIES", "a=b")
    given = client_arguments(Client(host="https://kfp.example", cookies_variable="COOKIES", ca_file="ca.pem"))
    assert (given["cookies"], given["ssl_ca_cert"], given["existing_token"]) == ("a=b", "ca.pem", None)
    monkeypatch.delenv("COOKIES")
    with pytest.raises(SettingsError, match=r"client\.cookies_variable names 'COOKIES', which is not set"):
        client_arguments(Client(cookies_variable="COOKIES"))


def test_cron_has_five_fields_or_six():
    assert six_fields("0 3 * * 1-5") == "0 0 3 * * 1-5"
    assert six_fields("30 0 3 * * *") == "30 0 3 * * *"
    with pytest.raises(SettingsError, match="4 fields"):
        six_fields("0 3 * *")


def test_ui_prints_its_address(project, kubeflow):
    assert command(project, "ui", "--dry-run").stdout.strip().splitlines()[-1] == kubeflow.host
