"""The committed file on this machine: the whole pipeline shard by shard, shards that fail, a run that is killed.

The file is the one that Kubeflow is given. Only the wait between attempts is taken out of it, and the place of the
outcome is moved, so that no test writes into the project's own data.
"""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from kedro.pipeline import Pipeline
from repository import ROOT
from safetensors.torch import load_file
from toy_kedro import declare_plugin
from warm import Command
from whole_runs import records_of, without_clocks

from imprint.memory.parts import about_part
from kedro_kfp.datasets import read_facts
from kedro_kfp.emit import compile_plan
from kedro_kfp.plan import make_plan
from kedro_kfp.project import read_project

pytestmark = pytest.mark.slow


def without_waiting(file, folder):
    """The compiled file for a test: attempts follow at once, and the outcome lies in `folder`."""
    text = file.read_text()
    changed = text.replace("backoffDuration: 30s", "backoffDuration: 0s")
    changed = changed.replace("data/08_reporting/runs/kubeflow", str(folder / "outcomes"))
    assert changed.count("backoffDuration: 0s") > 1
    (folder / "pipeline.yaml").write_text(changed)
    return folder / "pipeline.yaml"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts `kedro kubeflow local` of a compiled file, in a process group of its own."""
    plugin = str(declare_plugin(tmp_path_factory.mktemp("plugin")))

    def started(file, data_root):
        params = json.dumps({"data_root": str(data_root)})
        return Command(ROOT, "kubeflow", "local", str(file), "--env", "test", "--params", params, paths=[plugin])

    return started


@pytest.fixture(scope="module")
def local(start):
    """Runs a compiled file to its end: its exit code, and what it said."""

    def run(file, data_root):
        done = start(file, data_root).wait()
        return done.returncode, done.stdout + done.stderr

    return run


def contents(data_root, run_id="."):
    """Every file that a run of the spine writes but its records, without clocks and without where they lie."""
    found = {}
    for file in sorted(data_root.rglob("*")):
        name = str(file.relative_to(data_root)).replace(f"/{run_id}/", "/")
        if file.is_file() and not name.startswith(("08_reporting/runs/", "01_raw/", "07_model_output/answered")):
            found[name] = neutral(file, data_root)
    return found


def neutral(file, data_root):
    if "tried-memories-" in str(file):  # beside the tensors it says how long they took
        return without_clocks(about_part(file)), {name: one.tolist() for name, one in load_file(file).items()}
    if file.suffix not in (".json", ".jsonl", ".html"):
        return file.read_bytes()
    text = file.read_text().replace(str(data_root), "DATA")
    if file.suffix == ".html":
        return without_measured_seconds(text)
    lines = text.splitlines() if file.suffix == ".jsonl" else [text]
    return [without_clocks(json.loads(line)) for line in lines]


def without_measured_seconds(page):
    """A page without the cells that show what a clock measured: seconds of users and of trials."""
    cells = r"<td[^>]*>(?:(?!</td>).)*?\d s\b.*?</td>|<td class=\"number\">\d+\.\d</td>(?=<td>)"
    return re.sub(cells, "", page, flags=re.DOTALL)


def test_the_compiled_file_writes_what_kedro_run_writes(finished, local, tmp_path):
    """Invariant 8: byte for byte where no clock is involved."""
    data_root = tmp_path / "data"
    code, said = local(without_waiting(ROOT / "kubeflow/pipeline.yaml", tmp_path), data_root)
    assert code == 0, said[-9000:]

    (results,) = (data_root / "08_reporting").iterdir()
    ours, theirs = contents(data_root, run_id=results.name), contents(finished[0])
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert {"08_reporting/metrics.json", "08_reporting/report.html"} < ours.keys()
    assert len([name for name in ours if name.endswith("shard-00001.safetensors")]) == 4, "a store for each method"
    records = [json.loads(file.read_text()) for file in (results / "runs").glob("*.json")]
    assert {record["outcome"] for record in records} == {"completed"}
    given = [record["shard"] for record in records if record["shard"]]
    assert sorted(given) == ["shard-00000"] * 3 + ["shard-00001"] * 3, "three steps fan out, one task a shard"
    (outcome,) = (tmp_path / "outcomes").iterdir()
    assert json.loads(outcome.read_text())["state"] == "SUCCEEDED"


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A compiled file of two steps of the pipeline as it is shipped: partition, and memories shard by shard."""
    project, folder = read_project(ROOT, "cluster"), tmp_path_factory.mktemp("training")
    nodes = [node for node in project.pipeline.nodes if node.name in ("partition_users", "train_memories")]
    pipeline = Pipeline(nodes)
    stored = (name for name in pipeline.datasets() if not name.startswith("params:"))
    plan = make_plan("__default__", pipeline, read_facts(stored, project.catalog), project.settings)
    compile_plan(plan, project.settings, project.env, folder / "compiled.yaml")
    return without_waiting(folder / "compiled.yaml", folder)


@pytest.fixture
def untrained(finished, tmp_path):
    """What a run has that is about to train memories, and the folders of the stores it is going to write, by shard."""
    data_root = tmp_path / "data"
    shutil.copytree(finished[0], data_root)
    made = {shard: Path(record["path"]).name for shard, record in records_of(data_root, "06_models/memories").items()}
    trials = [folder.name for folder in (data_root / "06_models").glob("tried-memories-*")]
    assert trials, "what trials made of users would be taken, and nobody trained"
    for name in (*made.values(), *trials, "memories"):
        shutil.rmtree(data_root / "06_models" / name)
    for name in ("base_model.json", "pooled_model.json"):  # a copy of the models lies where the records say
        record = data_root / "05_model_input" / name
        record.write_text(record.read_text().replace(str(finished[0]), str(data_root)))
    return data_root, {shard: data_root / "06_models" / name for shard, name in made.items()}


def assert_same_memories(stores, finished):
    """The finished run took its memories from trials: other company, so the last bits differ."""
    theirs = records_of(finished[0], "06_models/memories")
    for shard, store in stores.items():
        mine, expected = (load_file(Path(place) / f"{shard}.safetensors") for place in (store, theirs[shard]["path"]))
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-4)
        assert json.loads((store / "manifest.json").read_text())["taken"] == {}


def trained_at(store):
    return {file.name: (file.stat().st_mtime_ns, file.stat().st_ino) for file in store.iterdir()}


def test_a_shard_that_keeps_failing_fails_the_run_by_name_and_the_others_are_not_trained_again(
    finished, untrained, training, local
):
    data_root, stores = untrained
    first, second = stores
    in_the_way = Path(f"{stores[second]}.parts")
    in_the_way.write_text("a file where a folder must be, so that no attempt of this shard can write a memory")

    code, said = local(training, data_root)

    assert code == 1
    assert said.count(f"step 'inject', shard '{second}', node 'train_memories' failed") == 3, said[-9000:]
    assert stores[first].is_dir()
    assert not stores[second].exists()
    assert list(records_of(data_root, "06_models/memories")) == [first]
    kept = trained_at(stores[first])

    in_the_way.unlink()
    code, said = local(training, data_root)

    assert code == 0, said[-9000:]
    assert trained_at(stores[first]) == kept
    assert_same_memories(stores, finished)


def test_a_killed_run_goes_on_where_it_was(finished, untrained, training, start, local):
    """SIGKILL to the run and all its tasks, once some users of a shard are trained."""
    data_root, stores = untrained
    process = start(training, data_root)
    while not list((data_root / "06_models").glob("memories-*.parts/*.safetensors")):
        assert process.poll() is None, process.wait()
        time.sleep(0.001)  # what is left after the first part takes some hundredths of a second
    process.kill()
    assert not list(data_root.glob("06_models/memories/*")), "no shard was finished"

    code, said = local(training, data_root)

    assert code == 0, said[-9000:]
    assert_same_memories(stores, finished)
