"""A run's record, of real runs of single stages: what it was made of, on what, and how it ended."""

import json

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from repository import ROOT

from imprint.data.tables import table_fingerprint
from imprint.errors import CorpusError, SettingsError
from imprint.provenance import device, peak_memory_mib


def run(data_root, *stages, **params):
    """The record that a run of `stages` leaves."""
    bootstrap_project(ROOT)
    folder = data_root / "08_reporting" / "runs"
    before = set(folder.glob("*.json"))
    with KedroSession.create(ROOT, env="test", runtime_params={"data_root": str(data_root), **params}) as session:
        session.run(pipeline_names=list(stages))
    (file,) = set(folder.glob("*.json")) - before
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "data"


@pytest.fixture(scope="module")
def ingested(data_root):
    return run(data_root, "ingest")


def test_every_run_says_its_seed_device_and_the_data_it_made(data_root, ingested):
    """Also one of a stage that draws no random number."""
    assert (ingested["outcome"], ingested["seed"], ingested["device"]) == ("completed", 7, device())
    assert ingested["data"] == {"ingested": table_fingerprint(data_root / "02_intermediate/ingested")}


def test_a_run_says_how_much_memory_it_took(ingested):
    assert 50 < ingested["peak_memory_mib"] <= peak_memory_mib() + 1


def test_a_run_names_the_data_it_read(data_root, ingested):
    found = run(data_root, "validate", seed=11)
    assert found["seed"] == 11
    assert found["data"]["ingested"] == ingested["data"]["ingested"]
    assert found["data"].keys() == {"ingested", "interactions", "quarantine"}


def test_other_data_have_another_name(data_root, ingested):
    other = run(data_root.parent / "other", "ingest", corpus={"fabricate": {"seed": 8}})
    assert other["data"].keys() == ingested["data"].keys()
    assert other["data"] != ingested["data"]


@pytest.mark.parametrize("misspelt", [{"runid": "second"}, {"partitions": {"min_interactions": 20}}])
def test_a_parameter_that_nothing_reads_is_refused_before_anything_runs(data_root, ingested, misspelt):
    """`runid` would overwrite what `run_id` keeps apart."""
    with pytest.raises(SettingsError, match=rf"parameter {next(iter(misspelt))}: .*allowed are base, .*run_id.*Next"):
        run(data_root, "ingest", **misspelt)


def test_a_run_that_fails_claims_no_data_it_never_saw(data_root, ingested, tmp_path):
    """What an earlier run left there is not this run's."""
    with pytest.raises(CorpusError):
        run(data_root, "ingest", corpus={"format": "jsonl", "path": str(tmp_path / "absent.jsonl")})
    records = [json.loads(file.read_text()) for file in (data_root / "08_reporting" / "runs").glob("*.json")]
    (failed,) = [record for record in records if record["outcome"] == "failed"]
    assert failed["data"] == {}
    assert "absent.jsonl" in failed["error"]
    assert failed["seed"] == 7
