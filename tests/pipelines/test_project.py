"""The Kedro project: registry, catalog, parameters, and what they promise before any node runs."""

import re
import subprocess
import sys

import pytest
import yaml
from kedro.framework.project import configure_project, pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.validation.type_extractor import TypeExtractor
from pydantic import BaseModel, TypeAdapter, ValidationError
from repository import ROOT
from warm import Command

ENVIRONMENTS = sorted(folder.name for folder in (ROOT / "conf").iterdir() if folder.is_dir() and folder.name != "local")
LAYERS = sorted(folder.name for folder in (ROOT / "data").iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def project():
    bootstrap_project(ROOT)
    configure_project("pipelines")
    return dict(pipelines)


def context(env=None, **runtime):
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env=env, runtime_params=runtime) as session:
        return session.load_context()


def written(env=None):
    """The parameters as YAML has them, before any model reads them."""
    return context(env).config_loader["parameters"]


def parameter_models(project):
    """The pydantic model of every parameter block that a node asks for."""
    found = TypeExtractor(project).extract_types_from_pipelines()
    return {name.removeprefix("params:"): kind for name, kind in found.items()}


def test_the_spine_is_the_stages_in_their_order(project):
    assert list(project) == [
        "ingest", "validate", "partition", "base", "search", "inject", "evaluate", "report", "respond", "trial",
        "compare", "__default__",
    ]  # fmt: skip
    spine = {node.name for node in project["__default__"].nodes}
    assert spine == {
        node.name
        for name, stage in project.items()
        if name not in ("respond", "trial", "compare", "__default__")
        for node in stage.nodes
    }
    assert not spine & {node.name for name in ("respond", "trial") for node in project[name].nodes}


def test_every_node_has_a_name_and_tags_for_a_cluster(project):
    for node in [node for pipeline in project.values() for node in pipeline.nodes]:
        assert re.fullmatch(r"[a-z_]+", node.name)
        assert sorted({tag.split(".")[0] for tag in node.tags} - {"fanout"}) == ["group", "res"], node.name
        assert ("params:shard" in node.inputs) == ("fanout.shard_names" in node.tags), node.name


def test_every_dataset_is_in_the_catalog_with_its_layer_and_every_entry_is_used(project):
    """Nothing crosses nodes in memory only, so nothing is lost between containers."""
    entries = {
        name: entry
        for name, entry in yaml.safe_load((ROOT / "conf/base/catalog.yml").read_text()).items()
        if name[0] != "_"
    }
    used = {name for pipeline in project.values() for name in pipeline.datasets() if not name.startswith("param")}
    assert used - entries.keys() == set()
    assert entries.keys() - used == {"run_records"}  # the hook's
    layers = {name: entry["metadata"]["kedro-viz"]["layer"] for name, entry in entries.items()}
    assert set(layers.values()) == set(LAYERS)
    for name, entry in entries.items():  # a file lies in the layer it is said to belong to
        assert f"/{layers[name]}" in entry["filepath"] or entry["filepath"].startswith("conf/"), name
    assert backward(project["__default__"], layers) == []
    assert backward(project["compare"], layers) == []


def backward(pipeline, layers):
    """Nodes that lead from a later layer to an earlier one: kedro-viz draws no layers where there is one."""
    return [
        node.name
        for node in pipeline.nodes
        for given in node.inputs
        for made in node.outputs
        if given in layers and LAYERS.index(layers[given]) > LAYERS.index(layers[made])
    ]


def test_a_node_against_the_layers_is_noticed(project):
    outputs = {name: "06_models" for node in project["search"].nodes for name in node.outputs}
    outputs |= dict.fromkeys(("search_result", "trials"), "05_model_input")
    assert backward(project["search"], {**outputs, "pooled_model": "06_models"}) == ["search_population"] * 2


def test_every_catalog_entry_can_be_made(project):
    """Kedro finds an unknown dataset type only on use."""
    catalog = context().catalog
    assert len([catalog.get(name) for name in catalog if not name.startswith("param")]) > 25


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_environment_gives_parameters_that_every_model_accepts(project, env):
    models = parameter_models(project)
    parameters = written(env)
    assert {
        "corpus",
        "ingest",
        "validate",
        "partition",
        "base",
        "pooled",
        "search",
        "memory",
        "evaluate",
        "respond",
        "trial",
        "compare",
    } <= {name for name, kind in models.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}
    for name, kind in models.items():
        TypeAdapter(kind).validate_python(parameters[name])


@pytest.mark.parametrize(
    "block",
    ["corpus", "ingest", "validate", "partition", "base", "pooled", "search", "memory", "evaluate", "trial", "compare"],
)
def test_a_misspelt_key_in_any_block_is_refused(project, block):
    given = written()[block]
    with pytest.raises(ValidationError, match="Extra inputs"):
        TypeAdapter(parameter_models(project)[block]).validate_python({**given, "misspelt": 1})


def test_every_parameter_a_node_asks_for_is_in_yaml_and_every_block_is_used(project):
    asked = {
        name.removeprefix("params:") for pipeline in project.values() for name in pipeline.inputs() if "params:" in name
    }
    assert asked == set(written())


def test_yaml_teaches_every_key_and_no_default_hides_from_it(project):
    """A value a person may change is in conf/base: every field of every model has its key there."""
    parameters = written()
    for name, kind in parameter_models(project).items():
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert missing_keys(kind, parameters[name], name) == []


def missing_keys(model, given, where):
    missing = []
    for field, info in model.model_fields.items():
        if field not in given:
            missing.append(f"{where}.{field}")
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            missing += missing_keys(info.annotation, given[field], f"{where}.{field}")
    return missing


def kedro(*arguments, cwd=ROOT):
    return Command(cwd, *arguments).wait()


def test_the_command_line_imports_nothing_heavy():
    """`kedro registry list` loads every pipeline and none of torch, transformers, pandas, pyarrow, plotly."""
    code = (
        "import sys; from pathlib import Path; from kedro.framework.startup import bootstrap_project;"
        "bootstrap_project(Path.cwd()); from kedro.framework.project import pipelines; dict(pipelines);"
        "heavy = {'torch', 'transformers', 'peft', 'pandas', 'pyarrow', 'plotly', 'hyperopt', 'great_expectations'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("corpus.format=irrc", "did you mean 'irc'"),
        ("corpus.format=jsonl,corpus.path=nowhere.jsonl", "nowhere.jsonl"),
        ("partition.min_interaction=5", "Extra inputs"),
        ("memory.fixed_config.n_memories=9", "less than or equal to 4"),
        ("search.space.layer_groups=12", "less than or equal to 8"),
    ],
)
def test_a_wrong_value_fails_before_any_work_and_names_itself(tmp_path, params, says):
    run = kedro("run", "--params", f"{params},data_root={tmp_path / 'data'}")

    assert run.returncode != 0
    shown = " ".join((run.stdout + run.stderr).split())
    assert says.lower() in shown.lower()
    assert params.split("=")[0].split(".")[-1] in shown
    assert not list((tmp_path / "data").rglob("*.parquet"))
