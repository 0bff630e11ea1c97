"""An environment for each kind of experiment: it loads, asks for what its corpus offers, and says how it is run."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from repository import ROOT

from imprint.corpora import CORPORA, CorpusSettings
from imprint.data.partition import PartitionSettings

EXPERIMENTS = ("dialogue", "lamp", "medical", "movielens", "reviews")
NEEDED = ("what for", "download", "command", "one override")


def header_of(text):
    """The comment lines before the first key."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return "\n".join(lines)


def missing_in(header, name):
    """What a reader of the header is not told."""
    told = dict(re.findall(r"^#   ([a-z ]+?) {2,}(\S.*)$", header, re.MULTILINE))
    missing = [one for one in NEEDED if one not in told]
    if not told.get("command", "").startswith(f"kedro run --env {name}"):
        missing.append(f"kedro run --env {name}")
    if "http" not in told.get("download", ""):
        missing.append("where to download it")
    return missing


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_is_what_to_download_and_how_to_run_it(name):
    assert missing_in(header_of((ROOT / "conf" / name / "parameters.yml").read_text()), name) == []


def test_a_header_that_leaves_something_out_is_noticed():
    header = header_of((ROOT / "conf/lamp/parameters.yml").read_text())
    assert missing_in(header, "movielens") == ["kedro run --env movielens"]
    assert missing_in(header.replace("https", "see "), "lamp") == ["where to download it"]
    assert "one override" in missing_in(header.replace("one override", "one"), "lamp")


def parameters_of(name, **runtime):
    """The parameters of an environment, with `--params`."""
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env=name, runtime_params=runtime) as session:
        return session.load_context().config_loader["parameters"]


@pytest.mark.parametrize("name", [None, "test", *EXPERIMENTS])
def test_an_override_changes_what_it_names_and_nothing_else(name):
    """Else a run with one value changed would quietly leave the others to the defaults of the code."""
    plain = parameters_of(name)
    changed = parameters_of(name, pooled={"fit": {"max_tokens": 7}}, search={"trials": 9})
    assert changed["pooled"]["fit"] == plain["pooled"]["fit"] | {"max_tokens": 7}
    assert changed["search"] == plain["search"] | {"trials": 9}
    assert {**changed, "pooled": None, "search": None} == {**plain, "pooled": None, "search": None}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_keeps_what_it_does_not_name(name):
    """The values of `base/` are those that were measured."""
    base, own = parameters_of(None), parameters_of(name)
    assert own["search"] == base["search"]
    assert own["base"]["embedded"]["fit"]["learning_rate"] == base["base"]["embedded"]["fit"]["learning_rate"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_asks_its_corpus_for_what_the_corpus_offers(name):
    """Without the files: the reader itself checks the task only once they are there."""
    parameters = parameters_of(name)
    corpus = CorpusSettings.model_validate(parameters["corpus"])
    module, reader = CORPORA[corpus.format].split(":")
    offered = getattr(import_module(module), reader).tasks
    assert corpus.task is None or corpus.task in offered
    assert corpus.path.startswith("data/01_raw/")
    PartitionSettings.model_validate(parameters["partition"])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_task_a_comment_offers_is_one_the_corpus_has(name):
    """`task: x # x | y` is read by people who then write y."""
    text = (ROOT / "conf" / name / "parameters.yml").read_text()
    kind = re.search(r"format: (\S+)", text)[1]
    module, reader = CORPORA[kind].split(":")
    for offered in re.findall(r"^  task: \S+ # ([\w |]+)", text, re.MULTILINE):
        assert tuple(offered.split(" | ")) == getattr(import_module(module), reader).tasks


def test_the_formats_in_the_comment_are_the_formats_there_are():
    """conf/base tells a person what to write."""
    text = (ROOT / "conf/base/parameters_ingest.yml").read_text()
    comment = "".join(re.findall(r"^  # (.*)$", text, re.MULTILINE)[:2])
    assert sorted(one.strip() for one in comment.split("|")) == sorted(CORPORA)
