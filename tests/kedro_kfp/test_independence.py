"""The translator knows no project and plans without kfp: the contracts of pyproject.toml, and what breaks them."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from repository import ROOT

CONTRACTS = {
    one["name"]: one
    for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
}


def lint(folder, contract):
    """import-linter with one contract of ours on a copy of the package, beside empty packages of the other names."""
    for name in {*contract["forbidden_modules"]} - {"kfp", "kubernetes"}:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("")
    roots = ["kedro_kfp", *(name for name in ("imprint", "pipelines") if (folder / name).is_dir())]
    listed = {key: "\n    ".join(["", *value]) for key, value in contract.items() if isinstance(value, list)}
    lines = ["[importlinter]", "root_packages =" + "\n    ".join(["", *roots]), "include_external_packages = True"]
    lines += ["[importlinter:contract:one]", f"name = {contract['name']}", f"type = {contract['type']}"]
    lines += [f"{key} ={value}" for key, value in listed.items()]
    (folder / ".importlinter").write_text("\n".join(lines))
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("The translator to Kubeflow knows no project", "import imprint"),
        ("The translator to Kubeflow knows no project", "import pipelines"),
        ("A plan for Kubeflow is made without kfp", "import kfp"),
    ],
)
def test_an_import_that_a_contract_forbids_is_noticed(tmp_path, name, planted):
    shutil.copytree(ROOT / "src/kedro_kfp", tmp_path / "kedro_kfp")
    clean = lint(tmp_path, CONTRACTS[name])
    assert clean.returncode == 0, clean.stdout
    for other in ("imprint", "pipelines"):
        shutil.rmtree(tmp_path / other, ignore_errors=True)

    module = Path(tmp_path / "kedro_kfp/group.py")
    module.write_text(f"{module.read_text()}\n{planted}\n")
    broken = lint(tmp_path, CONTRACTS[name])

    assert broken.returncode == 1
    assert f"{name} BROKEN" in broken.stdout


def test_planning_runs_where_neither_kfp_nor_any_project_is_installed():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('kfp', 'kubernetes', 'imprint', 'pipelines')));"
        "import kedro_kfp.plan"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
