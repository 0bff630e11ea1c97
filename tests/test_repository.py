"""The repository keeps its promises by machine. Every guard here is shown a bad example that it must reject."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from repository import (
    ROOT,
    defined_targets,
    make_targets,
    paths_in_table,
    tracked_files,
    tree_defects,
    tree_entries,
    unpinned,
)

import imprint

README = (ROOT / "README.md").read_text()


def test_the_tree_in_the_readme_is_the_repository():
    assert len(tree_entries(README)) > 40
    assert tree_defects(README, tracked_files()) == []


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (
            README.replace("  fit.py ", "  fitt.py ", 1),
            "src/imprint/base/fitt.py is in the tree and not in the repository",
        ),
        (README.replace("  fit.py ", "  fitt.py ", 1), "src/imprint/base/fit.py is missing from the tree"),
        (re.sub(r"(\n +fit\.py) .*", r"\1", README), "src/imprint/base/fit.py has no description"),
    ],
)
def test_a_tree_that_lies_is_noticed(broken, says):
    assert broken != README
    assert says in tree_defects(broken, tracked_files())


def test_every_place_the_readme_sends_its_reader_exists():
    places = paths_in_table(README)
    assert len(places) > 20
    assert [place for place in places if not (ROOT / place).exists()] == []
    assert paths_in_table("## I want to change…\n| x | `src/nowhere.py` |") == ["src/nowhere.py"]


def test_every_make_command_in_the_prose_is_a_target():
    targets = defined_targets((ROOT / "Makefile").read_text())
    asked = make_targets(README) | make_targets((ROOT / "CONTRIBUTING.md").read_text())
    assert {"run", "test", "setup", "lint", "viz"} <= asked
    assert asked <= targets
    assert make_targets("make nothing\n") - targets == {"nothing"}


def test_ci_runs_lint_and_the_readmes_test_command():
    script = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in script if line.startswith("make")] == ["make lint", "make test"]


def test_import_directions_hold():
    """The contracts of pyproject.toml, each named as a sentence."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


PLANTED = {
    "imprint.data": "import imprint.report.page",
    "imprint.corpora": "import imprint.data.masking",
    "imprint.search": "def late():\n    from imprint.personalizers.methods import methods",
    "imprint.schema": "import imprint.provenance",
    "imprint.base": "def late():\n    from kedro.io import AbstractDataset",
    "imprint.memory": "import pipelines.progress",
    "imprint.evaluate": "import hyperopt",
    "imprint.report": "import great_expectations",
    "imprint.errors": "import torch",
    "pipelines.respond": "import pipelines.search.nodes",
    "kedro_kfp.errors": "import imprint.errors",
    "kedro_kfp.plan": "import kfp",
}
"""Imports that no module may have, each added to one that has none of them."""


def test_every_import_against_a_contract_is_noticed(tmp_path):
    """The contracts of pyproject.toml themselves, on a copy of the code with imports planted in it."""
    for folder in ("src/imprint", "src/kedro_kfp", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, line in PLANTED.items():
        path = tmp_path / ("" if module.startswith("pipelines") else "src") / module.replace(".", "/")
        with (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).open("a") as file:
            file.write(f"\n{line}\n")
    (tmp_path / "src/imprint/nowhere.py").write_text("")  # a module that declares no layer

    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'src'}{os.pathsep}{tmp_path}"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert run.returncode == 1
    shown = " ".join(run.stdout.split())
    assert "0 kept" in shown
    for module, line in PLANTED.items():
        imported = re.search(r"(?:import|from) (\S+)", line)[1]
        target = imported if imported.startswith(("imprint", "pipelines")) else imported.partition(".")[0]
        assert f"{module} -> {target}" in shown, (module, target)
    assert "nowhere" in shown


def test_the_version_is_the_same_everywhere():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    assert declared == newest == imprint.__version__


def test_every_installed_package_is_pinned():
    constraints = (ROOT / "constraints.txt").read_text()
    installed = [one.metadata["Name"] for one in metadata.distributions()]
    ours = {"imprint", "pip", "setuptools", "wheel"}
    assert [name for name in unpinned(constraints, installed) if name.lower() not in ours] == []
    assert unpinned("kedro==1.7.0", ["kedro", "surprise"]) == ["surprise"]


def test_nothing_reports_home():
    """The places that turn telemetry off (kedro-telemetry, Great Expectations, Hugging Face)."""
    assert yaml.safe_load((ROOT / ".telemetry").read_text()) == {"consent": False}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["kedro_telemetry"]["project_id"]) == {"0"}
    makefile = (ROOT / "Makefile").read_text()
    for switch in ("KEDRO_DISABLE_TELEMETRY := 1", "DO_NOT_TRACK := 1", "GX_ANALYTICS_ENABLED := false"):
        assert f"export {switch}" in makefile
    from pipelines import settings

    assert set(settings.DISABLE_HOOKS_FOR_PLUGINS) >= {"kedro-telemetry", "kedro-viz"}


def test_no_data_no_weights_and_no_shadowing_package_is_tracked():
    files = tracked_files()
    assert [name for name in files if name.startswith("data/") and Path(name).name != "README.md"] == []
    assert [name for name in files if name.startswith("conf/local/")] == ["conf/local/README.md"]
    assert [name for name in files if (ROOT / name).stat().st_size > 1_000_000] == []
    assert [name for name in files if re.match(r"(kubeflow|conf|data)/(.*/)?__init__\.py", name)] == []


def test_modules_stay_short_and_have_names_of_their_own():
    code = [name for name in tracked_files() if re.match(r"(src|pipelines|tests)/.*\.py$", name)]
    long = {name: count for name in code if (count := len((ROOT / name).read_text().splitlines())) > 300}
    assert long == {}
    assert [name for name in code if Path(name).stem in {"utils", "helpers", "common", "misc"}] == []
    assert [
        name for name in code if name.endswith("nodes.py") and len((ROOT / name).read_text().splitlines()) > 100
    ] == []


def test_every_yaml_and_json_file_loads():
    configs = [name for name in tracked_files() if name.startswith("conf/")]
    loaded = 0
    for name in configs:
        text = (ROOT / name).read_text()
        if name.endswith(".yml"):
            assert yaml.safe_load(text), name
            loaded += 1
        elif name.endswith(".json"):
            assert json.loads(text), name
            loaded += 1
    assert loaded == len([name for name in configs if not name.endswith(".md")]) >= 12
