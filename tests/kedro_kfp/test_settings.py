"""kubeflow.yml: what it may say, what is refused and how, and that the one we ship teaches every key."""

from collections.abc import Mapping
from typing import get_args, get_origin

import pytest
import yaml
from kedro.framework.project import configure_project
from kedro.framework.startup import bootstrap_project
from pydantic import BaseModel
from repository import ROOT
from toy_kedro import copy_toy, toy_settings

from kedro_kfp.errors import SettingsError
from kedro_kfp.profiles import Profile, StepWishes
from kedro_kfp.project import read_project
from kedro_kfp.settings import KubeflowSettings, Security, read_settings

SHIPPED = yaml.safe_load((ROOT / "conf/cluster/kubeflow.yml").read_text())


def test_the_shipped_file_loads_and_teaches_every_key_of_its_blocks():
    settings = read_settings(SHIPPED)
    assert settings.profiles["default"].retry.attempts == 2
    assert set(SHIPPED["security"]) == set(Security.model_fields)
    for name, model, written in [("", KubeflowSettings, SHIPPED), *nested(KubeflowSettings, SHIPPED)]:
        assert set(model.model_fields) - set(written) == set(), f"{name} leaves keys out"
    default, train = SHIPPED["profiles"]["default"], SHIPPED["profiles"]["train"]
    assert set(Profile.model_fields) == {*default, *train}


def nested(model, written):
    """Blocks that are models of their own, with what the file says for each."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation, written[name]


def test_every_field_says_what_it_is_for():
    seen = set()

    def walk(model):
        seen.add(model)
        for name, field in model.model_fields.items():
            assert (field.description or "").endswith("."), f"{model.__name__}.{name}"
            for inner in models_in(field.annotation):
                if inner not in seen:
                    walk(inner)

    walk(KubeflowSettings)
    assert StepWishes in seen
    assert len(seen) > 12


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (None, type, Mapping) and not get_args(annotation):
        return []
    return [model for inner in get_args(annotation) for model in models_in(inner)]


@pytest.mark.parametrize(
    "image", ["toy", "toy:latest", "registry.example:5000/toy", "toy@sha256:beef", "toy:", "a b:1.0", ""]
)
def test_an_image_that_is_not_pinned_is_refused(image):
    with pytest.raises(SettingsError, match="image") as caught:
        read_settings(toy_settings(image=image))
    assert "not pinned" in str(caught.value)


@pytest.mark.parametrize("image", ["registry.example:5000/toy:1.0", f"toy@sha256:{'ab' * 32}", "toy:latest-2"])
def test_a_pinned_image_is_taken(image):
    assert read_settings(toy_settings(image=image)).image == image


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"imagee": "x"}, "imagee: Extra inputs"),
        ({"profiles": {"heavy": {}}}, "'default' is missing"),
        ({"profiles": {"default": {"cpus": 2}}}, "profiles.default.cpus"),
        ({"profiles": {"default": {"memory": "2 GB"}}}, "profiles.default.memory"),
        ({"profiles": {"default": {"memory": "512m"}}}, "profiles.default.memory"),
        ({"profiles": {"default": {"cpu": "2Gi"}}}, "profiles.default.cpu"),
        ({"profiles": {"default": {"retry": {"attempts": -1}}}}, "profiles.default.retry.attempts"),
        ({"profiles": {"default": {"retry": {"backoff_factor": 1.5}}}}, "profiles.default.retry.backoff_factor"),
        ({"profiles": {"default": {"retry": {"backoff_max_seconds": 9}}}}, "retry.backoff_max_seconds: Extra inputs"),
        ({"profiles": {"default": {"retry": {"attempts": 20}}}}, "the last of 20 waits would be 15728640 s"),
        ({"profiles": {"default": {"timeout_seconds": 0}}}, "profiles.default.timeout_seconds"),
        ({"fan_outs": {"names": {"parameter": "shard", "parallelism": 0}}}, "fan_outs.names.parallelism"),
        ({"volumes": [{"claim": "c", "mount_path": "data"}]}, "'data' is relative"),
        ({"scratch": [{"mount_path": "tmp", "size": "1Gi"}]}, "'tmp' is relative"),
        ({"scratch": [{"mount_path": "/home/toy/data", "size": "1Gi"}]}, "['/home/toy/data'] are mounted twice"),
        ({"secret_files": [{"name": "k", "mount_path": "/tmp"}]}, "['/tmp'] are mounted twice"),
        ({"security": {"run_as_user": 0}}, "security.run_as_user"),
        ({"artifacts": {"report": {"kind": "pdf"}}}, "artifacts.report.kind"),
        (
            {"profiles": {"default": {"cache": True}}, "steps": {}},
            "profiles.default.cache: Kubeflow skips a step",
        ),
        ({"steps": {"square": {"cache": True}}}, "steps.square.cache: Kubeflow skips a step whose inputs"),
        ({"artifacts": {"run": {"kind": "html"}}}, "['run'] are names of the translator's own"),
        ({"artifacts": {"params": {"kind": "html"}}}, "['params'] are names of the translator's own"),
        ({"secrets": [{"name": "S3_KEYS", "keys": {"a": "A"}}]}, "secrets.0.name"),
        ({"environment": {"AWS_SECRET_ACCESS_KEY": "abc"}}, "environment.AWS_SECRET_ACCESS_KEY looks like"),
        ({"environment": {"AWS_ACCESS_KEY_ID": "abc"}}, "environment.AWS_ACCESS_KEY_ID looks like"),
        ({"environment": {"KFP_TOKEN": "abc"}}, "Next: put it into a Kubernetes secret"),
        ({"environment": {"PGPASSWORD": "abc"}}, "environment.PGPASSWORD looks like"),
        ({"environment": {"DATABASE": "postgres://me:moonshine@db/x"}}, "environment.DATABASE holds a URL with a user"),
        ({"environment_from_shell": ["KFP_TOKEN"]}, "environment_from_shell.KFP_TOKEN looks like"),
        ({"environment_from_shell": ["NOT A NAME"]}, "environment_from_shell.0"),
        ({"environment_from_shell": ["A"], "environment": {"A": "b"}}, "['A'] are named in both"),
        (
            {"run": {"outcome_folder": "s3://me:se/cr:et@b/x"}},
            "run.outcome_folder holds a URL with a user",
        ),
        ({"environment": {"PLACE": "see s3://me:se/cret@b/x"}}, "environment.PLACE holds a URL with a user"),
        ({"client": {"proxy": "http://me:se/cret@proxy:80"}}, "client.proxy holds a URL with a user and a password"),
        ({"katib": {"step": "s", "trials": 1, "objective": {"dataset": "d", "key": "k"}}}, "katib.parameters: Field"),
        ({"name": "Not A Name"}, "name: String should match"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(changed, says):
    with pytest.raises(SettingsError) as caught:
        read_settings(toy_settings(**changed))
    assert says in str(caught.value)
    assert "se/cr" not in str(caught.value)


def test_a_variable_that_only_sounds_like_a_credential_is_taken():
    plain = {"TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "de", "AWS_REGION": "x"}
    assert read_settings(toy_settings(environment=plain)).environment == plain


CREDENTIALS = [
    "s3://me:moonshine@bucket/x", "-----BEGIN RSA PRIVATE KEY-----\nmoonshine", "AKIA" + "MOONSHINE1234567",
    "eyJtb29u.c2hpbmU.x", "hf_" + "moonshine" * 3, "ghp_" + "moonshine" * 3, "AccountName=me;AccountKey=moonshine",
]  # fmt: skip


@pytest.mark.parametrize("value", CREDENTIALS)
def test_what_has_the_form_of_a_credential_is_not_taken_from_the_shell_and_never_shown(value):
    settings = read_settings(toy_settings(environment_from_shell=["PLACE"]))
    with pytest.raises(SettingsError, match=r"environment_from_shell\.PLACE looks like a credential") as caught:
        settings.with_shell({"PLACE": value})
    assert "moonshine" not in str(caught.value).lower()


@pytest.mark.parametrize("value", ["s3://bucket/prefix", "https://proxy.example:3128", "a=b,c:d", "", "sk-learn"])
def test_plain_values_are_taken_from_the_shell_and_nothing_that_is_not_named(value):
    settings = read_settings(toy_settings(environment_from_shell=["PLACE"]))
    taken = settings.with_shell({"PLACE": value, "HOME": "/root", "KFP_TOKEN": "x"})
    assert taken.environment == {"KEDRO_DISABLE_TELEMETRY": "1", "PLACE": value}
    with pytest.raises(SettingsError, match=r"\['PLACE'\] are not set in this shell"):
        settings.with_shell({})


def test_all_defects_of_the_file_come_at_once():
    with pytest.raises(SettingsError) as caught:
        read_settings(toy_settings(group_by="colour", description=7))
    assert str(caught.value).count("\n") == 2


@pytest.fixture
def project(tmp_path):
    yield copy_toy(tmp_path)
    bootstrap_project(ROOT)  # what other tests of this process expect Kedro to be in
    configure_project("pipelines")


def test_a_project_is_read_in_its_environment_without_its_own_settings_knowing_the_file(project):
    read = read_project(project, "cluster", runtime_params={"rows": 5, "data_root": "data/elsewhere"})
    assert [step.name for step in read.plan().steps] == ["write-shards", "square", "finish"]
    assert read.parameters["rows"] == 5
    assert read.catalog["metrics"]["filepath"] == "data/elsewhere/metrics.json"
    assert read_project(project, "cluster", image="other:2.0").settings.image == "other:2.0"

    with pytest.raises(SettingsError, match=r"there is no kubeflow\.yml"):
        read_project(project, "base")
    with pytest.raises(SettingsError, match="no pipeline 'spine'"):
        read_project(project, "cluster", "spine")
    with pytest.raises(SettingsError, match="not pinned"):
        read_project(project, "cluster", image="other")
