"""What the image's files promise, without an engine; kubeflow/check_image.sh builds it and tries it."""

import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import PurePosixPath

import pytest
import yaml
from repository import ROOT

from kedro_kfp.project import read_project

FOLDER = ROOT / "kubeflow"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
SETTINGS = yaml.safe_load((ROOT / "conf/cluster/kubeflow.yml").read_text())


def instructions(dockerfile):
    """Instruction and argument, with continued lines joined and comments left out."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    return [tuple(line.split(None, 1)) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]


def image_defects(dockerfile):
    """Broken promises of a Dockerfile."""
    found = instructions(dockerfile)
    last_stage = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    final = found[last_stage:]
    users = [value for name, value in final if name == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "the last user is no pair of numbers other than 0"
    base = re.search(r"^ARG BASE=(\S+)", dockerfile, re.MULTILINE)
    if base is None or not re.search(r":(?!latest$)[\w.-]+$|@sha256:[0-9a-f]{64}$", base.group(1)):
        yield "the base image is not pinned"
    if [value.split()[0] for name, value in found if name == "FROM"] != ["${BASE}", "packages", "${BASE}"]:
        yield "a stage is not on the pinned base"
    for name, value in found:
        if name == "RUN":
            yield from (f"unpinned: {one}" for one in re.findall(r"pip install[^&]*", value) if not pinned(one))
        if name in {"ADD", "ONBUILD"} or (name == "COPY" and value.split()[0] == "."):
            yield f"{name} {value} takes more than is named"
    if any(name == "RUN" for name, _ in final):
        yield "the last stage runs something, which another layer keeps"
    if ("ENTRYPOINT", '["python3", "-m", "kedro_kfp.step"]') not in final:
        yield "the entry point is not the step"
    if not re.search(r"^ARG EXTRAS=(?!.*kubeflow)", dockerfile, re.MULTILINE) or re.search(
        r"install[^&]*\bkfp", dockerfile
    ):
        yield "kfp would be inside"


def pinned(command):
    return "-c constraints.txt" in command or "--no-deps" in command


def test_the_image_keeps_its_promises():
    assert list(image_defects(DOCKERFILE)) == []
    assert len(instructions(DOCKERFILE)) > 20


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("USER 10001:10001", "USER imprint", "the last user is no pair"),
        ("USER 10001:10001", "USER 0:0", "the last user is no pair"),
        ("USER 10001:10001\n", "", "the last user is no pair"),
        ("ARG BASE=python:3.11.14-slim-bookworm", "ARG BASE=python", "the base image is not pinned"),
        ("ARG BASE=python:3.11.14-slim-bookworm", "ARG BASE=python:latest", "the base image is not pinned"),
        ("-c constraints.txt -r needed.txt", "-r needed.txt", "unpinned: pip install --quiet -r needed.txt"),
        ("COPY src src", "COPY . .", "COPY . . takes more than is named"),
        ("USER 10001:10001", "RUN pip install -c constraints.txt x\nUSER 1:1", "the last stage runs something"),
        ('"kedro_kfp.step"]', '"kedro_kfp.cli"]', "the entry point is not the step"),
        ("ARG EXTRAS=", "ARG EXTRAS=kubeflow", "kfp would be inside"),
        (" torch numpy", " torch kfp", "kfp would be inside"),
        ("FROM ${BASE}\nCOPY", "FROM debian:12\nCOPY", "a stage is not on the pinned base"),
    ],
)
def test_a_promise_that_is_broken_is_noticed(good, bad, says):
    assert good in DOCKERFILE
    assert any(defect.startswith(says) for defect in image_defects(DOCKERFILE.replace(good, bad)))


def test_image_and_kubeflow_yml_agree():
    found = dict(instructions(DOCKERFILE))
    user, group = map(int, found["USER"].split(":"))
    assert SETTINGS["security"] == {"run_as_user": user, "run_as_group": group, "run_as_non_root": True}
    assert found["WORKDIR"] == SETTINGS["project_path"]
    home = re.search(r"HOME=(\S+)", DOCKERFILE).group(1)
    assert home in [one["mount_path"] for one in SETTINGS["scratch"]]
    (copied,) = {value.split()[-1] for name, value in instructions(DOCKERFILE) if value.startswith("conf ")}
    assert copied == f"{SETTINGS['project_path']}/conf"


def sent(path, patterns):
    """Whether a file goes to the engine: the last line that matches it, or a folder above it, decides."""
    places = [str(path), *map(str, PurePosixPath(path).parents)][:-1]
    decision = True
    for line in patterns:
        pattern = line.removeprefix("!")
        tails = [pattern, pattern.removeprefix("**/")]
        names = [PurePosixPath(place).name for place in places] if pattern.startswith("**/") else []
        if any(_matches(place, pattern) for place in places) or any(fnmatch(name, tails[1]) for name in names):
            decision = line.startswith("!")
    return decision


def _matches(place, pattern):
    parts, wanted = place.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch, parts, wanted))


@pytest.mark.parametrize(
    ("path", "goes"),
    [
        ("src/imprint/errors.py", True),
        ("pipelines/base/nodes.py", True),
        ("conf/cluster/kubeflow.yml", True),
        ("conf/base/expectations/interactions.json", True),
        ("conf/local/README.md", True),
        ("conf/local/pseudonym.key", False),
        ("conf/local/credentials.yml", False),
        ("data/01_raw/chats.jsonl", False),
        (".git/config", False),
        ("tests/conftest.py", False),
        ("kubeflow/pipeline.yaml", False),
        ("src/imprint/__pycache__/errors.cpython-311.pyc", False),
        (".env", False),
    ],
)
def test_only_what_an_image_may_hold_is_sent_to_the_engine(path, goes):
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert sent(path, patterns) is goes


def test_the_check_runs_every_step_of_the_pipeline_in_the_image():
    """The Dockerfile removes folders of installed packages: only a step that runs shows what it needs of them."""
    plan = read_project(ROOT, "cluster").plan()
    script = (FOLDER / "check_image.sh").read_text().replace("\\\n", " ")
    held = re.findall(r'step "[^"]+" 0 --step ([\w-]+) \$common\s+--nodes ([\w,]+)', script)
    assert [(name, sorted(nodes.split(","))) for name, nodes in held] == [
        (step.name, sorted(step.nodes)) for step in plan.steps
    ]


def test_the_check_s_steps_are_steps_of_the_project_and_it_says_when_there_is_no_engine():
    from pipelines.pipeline_registry import register_pipelines

    script = FOLDER / "check_image.sh"
    known = {node.name for node in register_pipelines()["__default__"].nodes}
    asked = {name for names in re.findall(r"--nodes ([\w,]+)", script.read_text()) for name in names.split(",")}
    assert asked - known == {"nobody"}
    run = subprocess.run(
        [script], env={**os.environ, "ENGINE": "false"}, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 3
    assert "next: install podman or docker" in run.stderr
