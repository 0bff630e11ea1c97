"""An environment for each kind of experiment: it loads, asks for what its corpus offers, and says how it is run."""

from __future__ import annotations

import os
import re
from collections import Counter
from importlib import import_module

import pytest
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from repository import ROOT

from imprint.corpora import CORPORA, CorpusSettings, open_corpus
from imprint.data.partition import PartitionSettings, assign_roles
from imprint.errors import NotEnoughDataError
from imprint.personalizers.prompts import LEAST

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


def overrides_of(name):
    """The `--params` of each command that the header of an environment offers."""
    header = header_of((ROOT / "conf" / name / "parameters.yml").read_text())
    return re.findall(rf"kedro run --env {name} --params (\S+)", header)


OVERRIDES = [(name, params) for name in EXPERIMENTS for params in overrides_of(name)]
FORMATS = [(name, found[1]) for name, params in OVERRIDES if (found := re.search(r"corpus\.format=(\w+)", params))]


@pytest.mark.parametrize(("name", "other"), FORMATS)
def test_another_format_that_a_header_offers_can_be_downloaded_too(name, other):
    header = header_of((ROOT / "conf" / name / "parameters.yml").read_text())
    assert re.search(rf"\b{other}:[\s#]*https://", header)


def parameters_with(name, params):
    """The parameters of an environment with an override as it is typed."""
    from omegaconf import OmegaConf

    return parameters_of(name, **OmegaConf.to_container(OmegaConf.from_dotlist(params.split(","))))


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
    named = yaml.safe_load((ROOT / "conf" / name / "parameters.yml").read_text())
    given = named.get("search", {})
    assert own["search"] == {**base["search"], **given, "space": base["search"]["space"] | given.get("space", {})}
    assert own["base"]["embedded"]["fit"]["learning_rate"] == base["base"]["embedded"]["fit"]["learning_rate"]


@pytest.mark.parametrize("name", [None, *EXPERIMENTS])
def test_a_prompt_has_room_for_what_is_put_into_it(name):
    """Methods that show text are not to be starved beside methods that read vectors."""
    compare = parameters_of(name)["compare"]
    assert compare["retrieval"]["budget_tokens"] >= 2 * LEAST * compare["retrieval"]["items"]
    assert compare["recent_history"]["budget_tokens"] >= 16 * LEAST


def test_as_many_movies_are_shown_as_events_are_read():
    """A turn of a movie is some 19 tokens long."""
    compare = parameters_of("movielens")["compare"]
    assert compare["recent_history"]["budget_tokens"] >= 19 * compare["user_llm"]["max_events"]


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


@pytest.mark.parametrize(("name", "params"), OVERRIDES)
def test_an_override_that_a_header_offers_is_one_that_the_settings_take(name, params):
    parameters = parameters_with(name, params)
    assert parameters != parameters_of(name)
    corpus = CorpusSettings.model_validate(parameters["corpus"])
    module, reader = CORPORA[corpus.format].split(":")
    assert corpus.task in (None, *getattr(import_module(module), reader).tasks)
    PartitionSettings.model_validate(parameters["partition"])


def test_every_experiment_offers_an_override():
    assert {name for name, _ in OVERRIDES} == set(EXPERIMENTS)


REAL = os.environ.get("IMPRINT_REAL_DATA")
HERE = {
    "data/01_raw/irc-disentanglement": ["irc-disentanglement"],
    "data/01_raw/msc": ["msc"],
    "data/01_raw/LaMP_3": ["lamp-format-derived"],
    "data/01_raw/counsel-chat": ["counsel-chat"],
    "data/01_raw/medical-question-answer-data": ["lasseregin-medqa"],
    "data/01_raw/aci-bench": ["aci-bench"],
    "data/01_raw/mts-dialog": ["mts-dialog"],
    "data/01_raw/ml-latest-small": ["ml-latest-small"],
    "data/01_raw/amazon": ["amazon2023-users", "amazon-all-beauty-5"],
    "data/01_raw/amazon-gift-cards-5": ["amazon-gift-cards-5"],
}
"""Where the archives lie that a header's place stands for."""
ENOUGH = 5


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="IMPRINT_REAL_DATA is not set: the public corpora are not on this machine")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_for_each_public_file_a_header_has_a_command_that_reports_enough_users(name):
    """By the command itself, or by one of the overrides below it."""
    reported = {}
    for params in ["", *overrides_of(name)]:
        parameters = parameters_with(name, params) if params else parameters_of(name)
        for folder in HERE.get(parameters["corpus"]["path"], []):
            counts = rows_by_user(CorpusSettings(**{**parameters["corpus"], "path": f"{REAL}/{folder}"}))
            settings = PartitionSettings.model_validate(parameters["partition"])
            try:
                roles = list(assign_roles(counts, settings)[0].values())
            except NotEnoughDataError:
                roles = []
            reported[folder] = max(reported.get(folder, 0), roles.count("reported"))
    assert reported
    assert {folder: users for folder, users in reported.items() if users < ENOUGH} == {}


def rows_by_user(settings):
    counts = Counter()
    for batch in open_corpus(settings).batches():
        users, problems = (batch.column(column).to_pylist() for column in ("user", "problem"))
        counts.update(user for user, problem in zip(users, problems, strict=True) if user and not problem)
    return counts


def test_the_formats_in_the_comment_are_the_formats_there_are():
    """conf/base tells a person what to write."""
    text = (ROOT / "conf/base/parameters_ingest.yml").read_text()
    comment = "".join(re.findall(r"^  # (.*)$", text, re.MULTILINE)[:2])
    assert sorted(one.strip() for one in comment.split("|")) == sorted(CORPORA)
