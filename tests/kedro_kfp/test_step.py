"""The command that a pod runs, on the toy project."""

import json
import logging.config
import os
import shlex
import subprocess
import sys
import time
from types import SimpleNamespace

import absl.logging
import pytest
from repository import ROOT
from toy_kedro import run_in

from kedro_kfp.last_words import gather
from kedro_kfp.step import main


def described(flags, nodes="write_shards", env="base", pipeline="__default__", params=None):
    step = ["--step", "toy-step", "--pipeline", pipeline, "--nodes", nodes, "--env", env]
    return [*step, "--params", json.dumps(params or {}), *flags]


@pytest.fixture
def step(project, capsys, monkeypatch):
    """Runs one step in this process: its exit code and log."""
    monkeypatch.chdir(project)

    def run(*flags, **changed):
        code = main(described(flags, **changed))
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


def last_line(run):
    return run.stderr.strip().splitlines()[-1]


def test_a_step_in_a_process_of_its_own_ends_with_its_code_and_the_failing_node(project):
    made = run_in(project, "-m", "kedro_kfp.step", *described([]))
    assert made.returncode == 0, made.stderr
    fault = {"shard": "s1", "times": 9, "folder": str(project / "attempts")}
    flags = described(["--item", "shard", "s1"], nodes="square_numbers,total", params={"fault": fault})
    run = run_in(project, "-m", "kedro_kfp.step", *flags)
    assert run.returncode == 1
    assert last_line(run) == "step 'toy-step', shard 's1', node 'square_numbers' failed: ValueError: shard s1 is cursed"
    assert "Traceback" in run.stderr


def test_a_step_runs_its_nodes_with_its_parameters_and_hands_over_its_list(project, step):
    made = project / "kubeflow/items/data"
    run = step("--list", "shard_names", str(made), params={"shards": 2, "rows": 5})
    assert run.returncode == 0, run.stderr
    assert json.loads(made.read_text()) == ["s0", "s1"]
    assert json.loads((project / "data/shards/s1.json").read_text()) == [1, 3]
    assert not (project / "data/squares").exists(), "other nodes belong to other pods"
    assert run.stdout.strip().splitlines()[-1] == "step 'toy-step' is done: write_shards"


def test_a_task_of_a_fan_out_does_its_item_and_no_other(project, step):
    assert step().returncode == 0
    assert step("--item", "shard", "s2", nodes="square_numbers").returncode == 0
    assert [file.name for file in (project / "data/squares").iterdir()] == ["s2.json"]


def test_single_parameters_lie_over_the_object_as_text_or_as_json(project, step):
    flags = ["--set", "data_root", "data/007", "--pick", "rows", "[3, 4]", "1", "--set-json", "fault.times", "2"]
    assert step(*flags, params={"rows": 9, "fault": {"shard": None}}).returncode == 0
    assert json.loads((project / "data/007/shards/s0.json").read_text()) == [0, 3]


def test_pages_and_numbers_are_handed_over_as_the_launcher_wants_them(project, step):
    folder = project / "kubeflow"
    artifact = {"name": "projects/1/metrics", "uri": "s3://bucket/metrics", "type": {"schemaTitle": "system.Metrics"}}
    executor_input = {
        "inputs": {},
        "outputs": {"artifacts": {"metrics": {"artifacts": [artifact]}}, "outputFile": str(folder / "output.json")},
    }
    assert step().returncode == 0
    run = step(
        *("--text", "report", str(folder / "report.html")),
        *("--metrics", "metrics", "metrics", "total,by_shard.*", "--executor-input", json.dumps(executor_input)),
        *("--objective", "loss", "metrics", "by_shard.s1"),
        nodes="square_numbers,total,page",
    )
    assert run.returncode == 0, run.stderr
    assert (folder / "report.html").read_text() == "<h1>506</h1>"
    (written,) = json.loads((folder / "output.json").read_text())["artifacts"]["metrics"]["artifacts"]
    assert written == {
        **artifact,
        "metadata": {"total": 506, "by_shard.s0": 126, "by_shard.s1": 166, "by_shard.s2": 214},
    }
    assert "loss=166" in run.stdout.splitlines()


HOOKS = """
from kedro.framework.hooks import hook_impl
class Hooks:
    @hook_impl
    def {when}(self):
        raise OSError("the bucket\\nis away: s3://me:se/cret@bucket/x")
HOOKS = (Hooks(),)
"""


@pytest.mark.parametrize(
    ("file", "broken", "code", "says"),
    [
        ("nodes.py", "def (", 2, " cannot run: the Kedro project in {project} does not load: SyntaxError:"),
        (
            "pipeline_registry.py",
            "import lost",
            2,
            " cannot run: the Kedro project in {project} does not load: ModuleN",
        ),
        ("settings.py", "import lost", 2, " cannot run: the Kedro project in {project} does not load: "),
        (
            "settings.py",
            HOOKS.format(when="before_pipeline_run"),
            1,
            " failed before its first node: OSError: the bucket ",
        ),
        (
            "settings.py",
            HOOKS.format(when="after_pipeline_run"),
            1,
            " failed after its last node: OSError: the bucket is",
        ),
        ("settings.py", HOOKS.format(when="after_catalog_created"), 2, " cannot run: no node was reached: OSError:"),
    ],
)
def test_what_fails_outside_a_node_names_step_and_item_in_its_last_line(project, file, broken, code, says):
    place = project / "toy" / file
    place.write_text(f"{place.read_text()}\n{broken}\n")
    run = run_in(project, "-m", "kedro_kfp.step", *described(["--item", "shard", "s1"]))
    assert run.returncode == code, run.stderr
    assert last_line(run).startswith("step 'toy-step', shard 's1'" + says.format(project=project))
    assert "se/cret" not in last_line(run)
    assert "Traceback" in run.stderr


def test_the_first_line_is_the_command_for_another_try_without_what_it_hands_over_and_without_secrets(step, tmp_path):
    params = {"rows": 5, "text": "it's s3://me:se/cret@bucket/x", "api_key": "s3cret"}
    run = step(
        "--set", "run_id", "r1", "--item", "shard", "s1", "--list", "shard_names", str(tmp_path / "x"), params=params
    )
    first = run.stdout.splitlines()[0]
    assert first.startswith("step 'toy-step', shard 's1' begins: python -m kedro_kfp.step --step toy-step --pipeline")
    parts = shlex.split(first.partition(" begins: ")[2])
    assert parts[-5:] == ["run_id", "r1", "--item", "shard", "s1"]
    told = json.loads(parts[parts.index("--params") + 1])
    assert told == {"rows": 5, "text": "it's s3://***@bucket/x", "api_key": "***"}
    assert "--list" not in parts


def test_a_task_leaves_word_of_its_failure_or_its_end_and_none_once_it_is_done(project, step):
    folder = project / "outcomes"
    flags = ["--outcome", str(folder), "run-1", "--item", "shard", "s1"]
    assert step(*flags, nodes="square_numbers", env="moon").returncode == 2
    (words,) = gather(str(folder), "run-1")
    assert (words["step"], words["item"], words["node"], words["code"]) == ("toy-step", "s1", None, 2)
    assert "'moon'" in words["error"]
    assert step(*flags, nodes="total").returncode == 1
    (words,) = gather(str(folder), "run-1")
    assert (words["node"], words["code"]) == ("total", 1)
    assert step(*flags).returncode == 0
    assert gather(str(folder), "run-1") == []


def test_a_task_that_is_killed_leaves_word_that_it_was_at_work(project):
    slow = {"fault": {"shard": None, "times": 0, "folder": str(project / "attempts"), "seconds": 600}}
    assert run_in(project, "-m", "kedro_kfp.step", *described([])).returncode == 0
    flags = described(["--outcome", "outcomes", "run-1"], nodes="square_numbers", params=slow)
    known = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, "-m", "kedro_kfp.step", *flags], cwd=project, env=known)
    while not (project / "attempts").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    (words,) = gather(str(project / "outcomes"), "run-1")
    assert words == {"step": "toy-step", "item": None, "node": None, "code": None, "error": None}


def test_an_outcome_that_cannot_be_written_fails_no_step(project, step):
    (project / "file").write_text("in the way")
    run = step("--outcome", str(project / "file"), "run-1")
    assert run.returncode == 0
    assert run.stderr.count("nothing can be left for the run's outcome at") == 2


def test_a_dataset_that_does_not_load_is_its_node_s_failure(project, step):
    run = step(nodes="total")
    assert run.returncode == 1
    assert last_line(run).startswith("step 'toy-step', node 'total' failed: DatasetError:")


def test_a_project_that_cannot_begin_is_no_node_s_failure(project, step):
    catalog = project / "conf/base/catalog.yml"
    catalog.write_text(catalog.read_text().replace("partitions.PartitionedDataset", "partitions.NoSuchDataset"))
    run = step()
    assert run.returncode == 2
    assert "step 'toy-step' cannot run: no node was reached: DatasetError:" in run.stderr


@pytest.mark.parametrize(
    ("changed", "flags", "says"),
    [
        ({"nodes": "square"}, [], "--nodes ['square']: pipeline '__default__' has no such nodes"),
        ({"pipeline": "spine"}, [], "--pipeline 'spine' is unknown; allowed are ['__default__']"),
        ({"env": "moon"}, [], "--env 'moon': there is no such environment"),
        ({}, ["--params", "[1]"], "--params is a JSON list; allowed is an object"),
        ({}, ["--params", "{'a': 1}"], "--params is not JSON"),
        ({}, ["--set-json", "rows", "many"], "--set-json rows: 'many' is not JSON"),
        ({}, ["--pick", "rows", "[1, 2]", "2"], "--pick rows: there is no choice '2' in [1, 2]"),
        ({}, ["--pick", "rows", "{}", "0"], "--pick rows: there is no choice '0' in {}"),
        ({"params": {"fault": 1}}, ["--set", "fault.times", "2"], "'fault' holds 1, which is no object"),
    ],
)
def test_a_command_that_no_attempt_can_carry_out_has_a_code_of_its_own(project, step, changed, flags, says):
    run = step(*flags, **changed)
    assert run.returncode == 2
    assert last_line(run).startswith("step 'toy-step' cannot run: ")
    assert says in last_line(run)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--text", "report", "x"], "dataset 'report' does not load: DatasetError: "),
        (["--list", "shard_names", "pyproject.toml/x"], "pyproject.toml/x could not be written ("),
        (["--metrics", "metrics", "m", "total", "--executor-input", "{}"], "--executor-input has no place for ['m']"),
        (["--list", "shards", "x"], "'shards' must be a list of texts, and is dict"),
        (["--text", "shard_names", "x"], "'shard_names' must be text to be shown, and is list"),
        (["--metrics", "shard_names", "m", "*"], "'shard_names' must be a dictionary of numbers"),
        (["--metrics", "metrics", "m", "los*"], "'metrics' has no number under the names ['los*']"),
        (["--metrics", "metrics", "m", "*"], "metrics need --executor-input"),
        (["--objective", "loss", "metrics", "loss"], "'metrics' has no 'loss', which Katib wants as 'loss'"),
        (["--objective", "loss", "metrics", "comment"], "'comment' must be a finite number for Katib"),
    ],
)
def test_a_result_that_kubeflow_cannot_take_is_named_though_the_nodes_ran(project, step, flags, says):
    run = step(*flags, nodes="write_shards,square_numbers,total")
    assert run.returncode == 3
    assert last_line(run).startswith("step 'toy-step' ran, and could not hand over its results: ")
    assert says in last_line(run)
    assert (project / "data/metrics.json").exists()


def test_a_list_with_an_item_twice_is_refused(tmp_path):
    from kedro_kfp.errors import HandOverError
    from kedro_kfp.hand_over import write_list

    with pytest.raises(HandOverError, match="twice"):
        write_list(["a", "b", "a"], "names", tmp_path / "items")
    write_list([], "names", tmp_path / "items")
    assert (tmp_path / "items").read_text() == "[]"


def test_logging_configured_anew_closes_no_stream_that_later_tests_print_to(capsys):
    stream = absl.logging.get_absl_handler().python_handler.stream
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
    assert not stream.closed


def test_a_step_needs_no_kfp(project):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('kfp', 'kubernetes', 'pydantic')));"
        "from kedro_kfp.step import main;"
        "sys.exit(main(['--step', 's', '--pipeline', '__default__', '--nodes', 'write_shards', '--env', 'base']))"
    )
    assert run_in(project, "-c", code).returncode == 0
