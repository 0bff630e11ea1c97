"""What the repository promises about itself, as functions that find broken promises; `test_repository` runs them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked_files() -> list[str]:
    """Every file git tracks, and every new one it does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(name for name in run.stdout.splitlines() if (ROOT / name).exists())


def tree_entries(readme: str) -> dict[str, str]:
    """Path to description, from the annotated tree of a README: indentation nests, two spaces end a name."""
    block = re.search(r"<!-- tree.*?-->\n```\n(.*?)```", readme, re.DOTALL)
    entries: dict[str, str] = {}
    parents: list[str] = []
    for line in block.group(1).splitlines() if block else []:
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, description = line.strip().partition("  ")
        parents[depth:] = [name.rstrip("/")]
        entries["/".join(parents)] = description.strip()
    return entries


def tree_defects(readme: str, files: list[str]) -> list[str]:
    """Entries that are not there, entries without a description, and code files that the tree leaves out."""
    entries = tree_entries(readme)
    folders = {str(parent) for name in files for parent in Path(name).parents}
    wrong = [f"{path} is in the tree and not in the repository" for path in entries if path not in {*files, *folders}]
    wrong += [f"{path} has no description" for path, description in entries.items() if not description]
    code = [
        name for name in files if re.match(r"(src|pipelines|tests)/.*\.py$", name) and not name.endswith("__init__.py")
    ]
    named = [name for name in code if name.startswith("src/")]
    wrong += [f"{name} is missing from the tree" for name in named if name not in entries]
    others = [name for name in files if "/" not in name or not name.startswith(("src/", "tests/", "data/"))]
    covered = {*entries}
    for name in (*code, *others):
        if not ({name, *map(str, Path(name).parents)} & covered):
            wrong.append(f"{name} is under nothing in the tree")
    return wrong


def paths_in_table(readme: str) -> list[str]:
    """Every repository path in code marks of the "I want to change…" table."""
    table = readme.partition("## I want to change…")[2].partition("\n## ")[0]
    return [path for path in re.findall(r"`([^`\s]+)`", table) if "/" in path]


def make_targets(text: str) -> set[str]:
    """Targets of the form `make NAME` that a text tells its reader to run."""
    return set(re.findall(r"\bmake ([a-z]+)\b(?=`|\s+#|\n)", text))


def defined_targets(makefile: str) -> set[str]:
    """Targets a Makefile defines."""
    return set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def unpinned(constraints: str, installed: list[str]) -> list[str]:
    """Installed distributions without an exact version in the constraints."""
    pinned = {_plain(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", constraints, re.MULTILINE)}
    return [name for name in installed if _plain(name) not in pinned]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
