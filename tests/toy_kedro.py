"""The toy Kedro project of tests/kedro_kfp/toy: a copy to run, its settings and catalog as its YAML has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from repository import ROOT
from warm import Command

TOY = ROOT / "tests/kedro_kfp/toy"


def toy_settings(**changed) -> dict:
    """What the toy's kubeflow.yml says, with other values at top level."""
    return {**yaml.safe_load((TOY / "conf/cluster/kubeflow.yml").read_text()), **changed}


def toy_catalog(**changed) -> dict:
    """The toy's catalog, with its root resolved and other entries."""
    text = (TOY / "conf/base/catalog.yml").read_text().replace("${_root}", "data")
    return {**{name: entry for name, entry in yaml.safe_load(text).items() if name != "_root"}, **changed}


def copy_toy(folder: Path) -> Path:
    """A project of its own, beside the package's entry points."""
    shutil.copytree(TOY, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
    declare_plugin(folder / "plugin")
    return folder / "project"


def declare_plugin(folder: Path) -> Path:
    """What an installed plugin looks like to Kedro, for a PYTHONPATH: the entry points that pyproject.toml declares."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    plugin = folder / "kedro_kfp_plugin-0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: kedro-kfp-plugin\nVersion: 0\n")
    lines = [
        line
        for group, names in declared.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()))
    ]
    (plugin / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def run_in(project: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """`command` by this interpreter in the project, with the plugin known to Kedro."""
    process = _start(project, *command, **environment)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kedro(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`kedro …` in the project."""
    known = {"COLUMNS": "200", "PYTHONPATH": os.pathsep.join(_paths(project)), **environment}
    return Command(project, *arguments, paths=_paths(project), **known).wait()


def start_kedro(project: Path, *arguments: str) -> subprocess.Popen:
    """`kedro …` in the project, at work when this returns."""
    return _start(project, "-m", "kedro", *arguments)


def _paths(project: Path) -> list[str]:
    return [str(ROOT / "src"), str(project.parent / "plugin"), os.environ.get("PYTHONPATH", "")]


def _start(project: Path, *command: str, **environment: str) -> subprocess.Popen:
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(_paths(project)), "COLUMNS": "200", **environment}
    return subprocess.Popen(
        [sys.executable, *command], cwd=project, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
