"""The first files of a project that is to run on Kubeflow: a commented kubeflow.yml, and a workflow for GitHub."""

from __future__ import annotations

import re
from pathlib import Path

from kedro_kfp.errors import SettingsError

_TEMPLATES = Path(__file__).parent / "templates"


def write_first_files(project: Path, conf: str, package: str, env: str, with_github_actions: bool) -> list[Path]:
    """Write CONF/ENV/kubeflow.yml, and the workflow if it is wanted; where they are.

    `SettingsError`, and nothing is written, where one of them is there already.
    """
    installed = "-r requirements.txt" if (project / "requirements.txt").is_file() else "-e ."
    name = re.sub(r"[^a-z0-9]+", "-", package.lower()).strip("-")[:58]  # room for what is added to it
    words = {"PIPELINE_NAME": name, "ENVIRONMENT": env, "INSTALLED": installed}
    files = {project / conf / env / "kubeflow.yml": "kubeflow.yml"}
    if with_github_actions:
        files[project / ".github/workflows/kubeflow.yml"] = "github_actions.yml"
    if there := [str(file.relative_to(project)) for file in files if file.exists()]:
        raise SettingsError(f"{there} are there already, and stay as they are. Next: move them away, or edit them.")
    for file, template in files.items():
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        for word, meant in words.items():
            text = text.replace(word, meant)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return list(files)
