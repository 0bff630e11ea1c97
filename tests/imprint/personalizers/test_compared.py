"""The methods of a comparison: one budget, no reported user among the teachers, and each method by its name."""

from pathlib import Path
from typing import get_args

import pytest
from methods import compare_settings
from pydantic import ValidationError
from toys import invented_rows

from imprint.base.load import prepare_base
from imprint.base.settings import BaseSettings, EmbeddedSettings, FitSettings
from imprint.data.atomic import read_manifest
from imprint.errors import SettingsError, TrainingDivergedError
from imprint.memory.settings import FleetSettings
from imprint.personalizers import conditioned
from imprint.personalizers.choosers import ByMeaning, ByWords, Latest
from imprint.personalizers.compared import compared_methods, teach_methods
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.settings import (
    CompareSettings,
)
from imprint.personalizers.shared import within
from imprint.schema import ROLES

FIT = FitSettings(learning_rate=1e-3, epochs=50, batch_rows=8)
TEACHERS = {user: invented_rows(user, 8) for user in ("tom", "una")}


def compare(*methods, budget=600):
    small = {"width": 16, "layers": 1, "heads": 2, "fit": FIT}
    return compare_settings(*methods, budget=budget, plug={"augment": 0, "fit": FIT}, **small)


def test_shared_weights_are_trained_within_the_budget_to_a_step(llama, tmp_path):
    records = teach_methods(llama, TEACHERS, compare("base", "persona_plug", "user_llm"), 1, tmp_path)

    assert list(records) == ["persona_plug", "user_llm"]
    for record in records.values():
        assert 600 <= record.training_tokens < 600 + 8 * 50
        assert record.teachers == 2
    assert teach_methods(llama, TEACHERS, compare("base"), 1, tmp_path) == {}


@pytest.mark.parametrize("method", ["tuned_history", "persona_plug", "user_llm"])
def test_shared_weights_that_diverged_are_not_kept(llama, tmp_path, method):
    wild = FIT.model_copy(update={"weight_decay": 1e30})
    settings = compare(method)
    settings = settings.model_copy(update={method: getattr(settings, method).model_copy(update={"fit": wild})})
    with pytest.raises(TrainingDivergedError, match=f"{method}-.* diverged at learning_rate 0.001.* Next: lower"):
        teach_methods(llama, TEACHERS, settings, 1, tmp_path)
    assert list(tmp_path.glob(f"{method}-*")) == []


@pytest.mark.parametrize("epochs", [1, 50])
def test_user_llms_first_stage_is_paid_from_the_same_budget(llama, tmp_path, epochs):
    """Its events are charged as tokens, and it leaves the second stage at least half, but for a step."""
    settings = compare("user_llm")
    pretrain = FIT.model_copy(update={"epochs": epochs})
    settings = settings.model_copy(update={"user_llm": settings.user_llm.model_copy(update={"pretrain": pretrain})})

    record = teach_methods(llama, TEACHERS, settings, 1, tmp_path)["user_llm"]

    manifest = read_manifest(Path(record.path))
    events = manifest["prepared"]["pretraining"]["events"]
    assert events == (16 if epochs == 1 else 304)  # two timelines of eight a step
    assert 600 <= record.training_tokens < 600 + 8 * 50


@pytest.mark.parametrize("method", ["tuned_history", "persona_plug", "user_llm"])
def test_lessons_that_a_budget_does_not_reach_are_never_written(llama, tmp_path, monkeypatch, method):
    """Of a corpus with a million lessons, writing all would take longer than learning from some."""
    many = {f"t{number}": invented_rows(f"t{number}", 20) for number in range(40)}
    written, example_after = [], conditioned.example_after

    def noted(*arguments):
        written.append(arguments)
        return example_after(*arguments)

    monkeypatch.setattr(conditioned, "example_after", noted)
    (record,) = teach_methods(llama, many, compare(method, budget=100), 1, tmp_path).values()

    assert record.lessons == 800
    assert 0 < len(written) < 200


def test_lessons_are_a_sequence():
    lessons = conditioned.Lessons(["a", "b", "c"], lambda plan: [plan])
    assert [lessons[0], lessons[-1]] == [["a"], ["c"]]
    assert lessons[0] is lessons[0]
    assert lessons[1:] == [["b"], ["c"]]
    assert list(lessons) == [["a"], ["b"], ["c"]]
    with pytest.raises(IndexError):
        lessons[3]


def test_a_budget_lowers_a_settings_own_bound_and_never_raises_it():
    assert within(FIT, 9).max_tokens == 9
    assert within(FIT.model_copy(update={"max_tokens": 5}), 9).max_tokens == 5


def made(settings, saved, folder):
    """What the names in these settings become on a saved base, where a search made no memories."""
    base = BaseSettings(path=str(saved), dtype="float32", embedded=EmbeddedSettings(fit=FIT))
    record = prepare_base([], base, 1, folder).model_dump(mode="json")
    return list(compared_methods(record, record, {}, {}, settings, base, FleetSettings(), 1, folder))


@pytest.mark.parametrize(("by", "chooser"), [("bm25", ByWords), ("dense", ByMeaning)])
def test_each_name_becomes_its_own_method(saved_llama, tmp_path, by, chooser):
    settings = compare("base", "pooled", "recent_history", "retrieval")
    settings = settings.model_copy(update={"retrieval": settings.retrieval.model_copy(update={"by": by})})

    base, pooled, recent, retrieval = found = made(settings, saved_llama, tmp_path)

    assert [one.name for one in found] == ["base", "pooled", "recent_history", "retrieval"]
    assert not isinstance(base, Prompted)
    assert not isinstance(pooled, Prompted)
    assert isinstance(recent._chooser, Latest)
    assert isinstance(retrieval._chooser, chooser)


@pytest.mark.parametrize("name", ["memory", "population_memory", "random_memory", "memory+retrieval"])
def test_a_memory_that_no_search_made_is_refused_by_name(saved_llama, tmp_path, name):
    with pytest.raises(SettingsError, match=r"compare.methods: '\w+' given, but this search made \[\] only. Next:"):
        made(compare("base", name), saved_llama, tmp_path)


def test_a_method_is_named_once_and_known():
    with pytest.raises(ValidationError, match="names one twice"):
        compare("base", "base")
    with pytest.raises(ValidationError, match="methods"):
        compare("base", "persona-plug")


def test_shared_weights_may_learn_from_whom_memories_learn_from():
    """From the training rows of any role, and of no role that there is not."""
    roles = CompareSettings.model_fields["taught_by"].annotation
    assert set(get_args(get_args(roles)[0])) == set(ROLES)
    with pytest.raises(ValidationError, match="taught_by"):
        CompareSettings.model_validate({**compare("base").model_dump(), "taught_by": ["everybody"]})
