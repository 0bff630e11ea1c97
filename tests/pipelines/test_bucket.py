"""The cluster environment on a bucket: pods that share nothing else run the pipeline, and no secret is told."""

import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
import torch
import yaml
from buckets import KEY, SECRET, another_pod, objects
from kedro.io import DatasetError
from repository import ROOT
from safetensors.torch import load

from imprint.data.atomic import read_manifest
from imprint.data.tables import write_table
from imprint.storage import at
from kedro_kfp import step
from kedro_kfp.emit import compile_plan
from kedro_kfp.errors import ParametersError, PlanError
from kedro_kfp.parameters import read_params
from kedro_kfp.project import read_project
from pipelines.datasets import RecordLines, Table, WholeFigure, WholeJSON, WholeText, Workspace

SMALLER = {
    "corpus": {"fabricate": {"users": 5, "interactions": 34, "background_users": 12}},
    "base": {"embedded": {"min_background_rows": 50, "fit": {"epochs": 2}}},
    "search": {"trials": 2, "own_trials": 1, "random_trials": 1},
    "partition": {"pilot_users": 1, "max_users": 5},
}


def test_a_bucket_needs_no_volume(tmp_path):
    """The pipeline plans for pods that have nothing of their own, once `data_root` and the outcomes are in a bucket."""
    for name in ("conf", "pyproject.toml", "pipelines"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    cluster = tmp_path / "conf/cluster"
    (cluster / "globals.yml").write_text("data_root: s3://imprint/data\n")
    written = yaml.safe_load((cluster / "kubeflow.yml").read_text())
    written["volumes"], written["run"]["outcome_folder"] = [], "s3://imprint/outcomes"
    (cluster / "kubeflow.yml").write_text(yaml.safe_dump(written))

    project = read_project(tmp_path, "cluster")

    assert len(project.plan().steps) >= 5
    places = {name: entry["filepath"] for name, entry in project.catalog.items() if name[0] != "_"}
    assert {name for name, place in places.items() if not place.startswith("s3://imprint/data/")} == {
        "interaction_expectations"
    }


def test_what_a_run_reports_lies_under_its_id_and_what_runs_share_does_not():
    catalog = read_project(ROOT, "cluster", runtime_params={"run_id": "run-7"}).catalog
    of_a_run = {"07_model_output", "08_reporting"}
    for name, entry in catalog.items():
        layer = entry.get("metadata", {}).get("kedro-viz", {}).get("layer") if name[0] != "_" else None
        if layer:
            assert (f"/{layer}/run-7/" in entry["filepath"]) == (layer in of_a_run), name


def test_what_a_dataset_saved_in_one_pod_it_loads_in_another(bucket):
    from plotly.graph_objects import Figure

    figure = Figure(layout={"title": "A finding"})
    made = {
        WholeJSON: ("one.json", {"name": "Zoë"}),
        WholeText: ("two.html", "<p>Zoë</p>"),
        RecordLines: ("three.jsonl", [{"n": 1}, {"n": 2}]),
        WholeFigure: ("four.json", figure),
    }
    for kind, (name, value) in made.items():
        dataset = kind(filepath=f"{bucket}/a/{name}")
        assert not dataset.exists()
        dataset.save(value)
        another_pod()
        dataset = kind(filepath=f"{bucket}/a/{name}")
        assert dataset.exists()
        assert dataset.load() == value
        assert f"{bucket}/a/{name}" in str(dataset)
        assert dataset.address == f"{bucket}/a/{name}"
    assert "A finding" in str(dataset.preview())
    with pytest.raises(DatasetError, match=rf"{bucket}/none\.jsonl is not there"):
        RecordLines(filepath=f"{bucket}/none.jsonl").load()


def test_a_table_is_saved_to_a_bucket_from_memory_or_from_the_spool(bucket):
    rows = pa.table({"n": [1, 2, 3]})
    Table(filepath=f"{bucket}/table").save(rows)
    another_pod()
    assert Table(filepath=f"{bucket}/table").load().to_table().equals(rows)

    spool = Workspace(filepath=f"{bucket}/spool", spool=True).load()
    write_table(spool / "table", rows.slice(1).to_batches(), rows.schema)
    Table(filepath=f"{bucket}/table").save(spool / "table")
    another_pod()
    table = Table(filepath=f"{bucket}/table", batches=True)
    assert table.exists()
    assert [batch.num_rows for batch in table.load()] == [2]
    assert not any("spool" in place for place in objects(bucket))
    assert not Table(filepath=f"{bucket}/other").exists()


def run_in_pods(plan, root, run_id, handed):
    """Every task in a pod of its own, as a cluster would: what is not in the bucket is lost between them.

    `handed` is a folder for the lists that steps hand over for later loops.
    """
    params = yaml.safe_load((ROOT / "conf/test/parameters.yml").read_text())
    for block, changes in SMALLER.items():
        for key, value in changes.items():
            params[block][key] = {**params[block].get(key, {}), **value} if isinstance(value, dict) else value
    params |= {"data_root": root, "run_id": run_id}
    for one in plan.steps:
        flags = [*plan.flags(one), "--env", "cluster", "--project", str(ROOT), "--params", json.dumps(params)]
        if one.lists:
            flags += ["--list", one.lists, str(handed / one.lists)]
        items = [[]]
        if one.loop:
            names = json.loads((handed / one.loop.over).read_text())
            items = [["--item", one.loop.settings.parameter, name] for name in names]
        for item in items:
            another_pod()
            assert step.main([*flags, *item]) == step.DONE, one.name


@pytest.mark.slow
def test_pods_on_a_bucket_write_what_a_disk_holds_and_tell_no_secret(bucket, tmp_path, capfd, caplog):
    for logger, level in (("imprint", "DEBUG"), ("pipelines", "INFO")):
        caplog.set_level(level, logger=logger)
    plan = read_project(ROOT, "cluster").plan()
    run_in_pods(plan, bucket, "first", tmp_path)
    run_in_pods(plan, str(tmp_path / "data"), "first", tmp_path)

    at_home = json.loads((tmp_path / "data/08_reporting/first/metrics.json").read_text())
    made = objects(bucket)
    on_bucket = json.loads(made["08_reporting/first/metrics.json"])
    for found in (at_home, on_bucket):
        for scores in found["methods"].values():
            scores.pop("seconds_per_user", None)
    assert on_bucket == at_home
    assert b"<html" in made["08_reporting/first/report.html"]
    written = {str(file.relative_to(tmp_path / "data")): file for file in (tmp_path / "data").rglob("*.safetensors")}
    tried = {place: file for place, file in written.items() if "/tried-memories-" in place}
    assert tried
    assert tried.keys() == {place for place in made if "/tried-memories-" in place}
    for place, file in tried.items():  # their bytes hold what a clock measured
        here, there = load(file.read_bytes()), load(made[place])
        assert here.keys() == there.keys()
        assert all(torch.equal(here[name], there[name]) for name in here)
    for name in sorted({file.name for place, file in written.items() if place not in tried}):
        there = sorted(content for place, content in made.items() if place.endswith(f"/{name}"))
        assert there == sorted(file.read_bytes() for file in (tmp_path / "data").rglob(name)), name
    records = [json.loads(content) for place, content in made.items() if "/first/runs/" in place]
    assert {record["outcome"] for record in records} == {"completed"}
    assert not any("/spool/" in place or place.endswith((".tmp", ".checkpoint")) for place in made)
    stores = {place.split("/")[1] for place in made if place.startswith("06_models/memories-")}
    assert stores
    assert all(read_manifest(at(bucket) / "06_models" / store) for store in stores)

    said = "".join(capfd.readouterr()) + caplog.text
    assert f"The report: {bucket}/08_reporting/first/report.html" in said.replace("\n", "")
    for secret in (KEY, SECRET):
        assert secret not in said
        assert not any(secret.encode() in content for content in made.values())


def test_the_compiled_file_knows_no_credential(s3_server, tmp_path):
    """Not of the environment nor of the catalog's `credentials`; and nobody gets one into it by a URL."""
    project = read_project(ROOT, "cluster", runtime_params={"data_root": "s3://imprint/data"})
    keys = {"credentials": {"key": KEY, "secret": SECRET}}
    project = replace(project, catalog={name: {**entry, **keys} for name, entry in project.catalog.items()})
    compile_plan(project.plan(), project.settings, project.env, tmp_path / "pipeline.yaml", {})
    written = (tmp_path / "pipeline.yaml").read_text()
    assert "evaluate" in written
    assert not [secret for secret in (KEY, SECRET) if secret in written]

    told = f"s3://{KEY}:{SECRET}/with+slashes@imprint/data"
    with pytest.raises(PlanError, match="lies at a URL with a user and a password") as planned:
        read_project(ROOT, "cluster", runtime_params={"data_root": told}).plan()
    with pytest.raises(ParametersError, match="data_root holds a URL with a user and a password") as asked:
        read_params(json.dumps({"data_root": told}))
    assert SECRET not in str(planned.value) + str(asked.value)
