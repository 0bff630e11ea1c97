"""Preparing, recording and loading base models."""

import json
from shutil import rmtree

import pytest
import torch
from toys import invented_rows, tiny_model

from imprint.base.embedded import SHAPES, save_model, shape_for, train_tokenizer
from imprint.base.load import BaseRecord, fingerprint_of_model, load_base, prepare_base
from imprint.base.settings import BaseSettings, EmbeddedSettings, FitSettings
from imprint.errors import BaseModelError, SettingsError, TrainingDivergedError

FIT = FitSettings(learning_rate=3e-3, epochs=2, batch_rows=16)
SETTINGS = BaseSettings(max_query_tokens=16, max_response_tokens=16, embedded=EmbeddedSettings(size="tiny", fit=FIT))


def rows():
    return [row for user in range(5) for row in invented_rows(f"u{user}", 20)]


def test_an_embedded_base_is_trained_once_and_then_found(tmp_path):
    steps = []
    first = prepare_base(rows(), SETTINGS, 1, tmp_path, lambda step, steps_in_all: steps.append(step))
    again = prepare_base(rows(), SETTINGS, 1, tmp_path, lambda *_: pytest.fail("trained twice"))

    assert steps[-1] == 14
    assert again == first
    assert load_base(first, SETTINGS).record == first


def test_a_base_whose_training_diverged_is_not_kept(tmp_path):
    wild = FIT.model_copy(update={"weight_decay": 1e30})
    settings = SETTINGS.model_copy(update={"embedded": SETTINGS.embedded.model_copy(update={"fit": wild})})
    with pytest.raises(TrainingDivergedError, match=r"base\.embedded\.fit\.learning_rate: 0\.003 given.* Next: lower"):
        prepare_base(rows(), settings, 1, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("change", ["rows", "seed", "settings"])
def test_another_corpus_seed_or_setting_is_another_base(tmp_path, change):
    first = prepare_base(rows(), SETTINGS, 1, tmp_path)
    other = SETTINGS.model_copy(update={"max_query_tokens": 12}) if change == "settings" else SETTINGS
    second = prepare_base(rows()[: 99 if change == "rows" else None], other, 2 if change == "seed" else 1, tmp_path)

    assert second.path != first.path


def test_a_base_killed_while_being_written_is_not_found(tmp_path, monkeypatch):
    """The manifest comes last: without it the folder does not count, and the base is trained again."""

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("imprint.base.load.save_model", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_base(rows(), SETTINGS, 1, tmp_path)
    monkeypatch.undo()

    assert list(tmp_path.iterdir()) == []
    assert prepare_base(rows(), SETTINGS, 1, tmp_path).layers == 2


def test_any_hugging_face_folder_is_a_base(saved_llama, tmp_path):
    settings = SETTINGS.model_copy(update={"path": str(saved_llama)})

    record = prepare_base([], settings, 1, tmp_path)

    loaded = load_base(record, settings)
    assert (record.family, record.layers) == ("llama", 3)
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


def test_weights_changed_behind_the_record_are_refused(saved_llama, tokenizer):
    settings = SETTINGS.model_copy(update={"path": str(saved_llama)})
    record = prepare_base([], settings, 1, saved_llama.parent)
    save_model(tiny_model("llama", tokenizer, seed=9), tokenizer, saved_llama)

    with pytest.raises(BaseModelError, match=record.fingerprint):
        load_base(record, settings)


def test_rows_longer_than_a_base_has_positions_for_are_refused_before_one_comes(tokenizer, tmp_path):
    """Else the first such row ends a run: on a card by a fault that names nothing."""
    save_model(tiny_model("gpt2", tokenizer), tokenizer, tmp_path)
    settings = SETTINGS.model_copy(update={"path": str(tmp_path), "max_query_tokens": 60, "max_response_tokens": 65})
    record = prepare_base([], settings, 1, tmp_path)
    assert load_base(record, settings).encoder.max_response_tokens == 65
    longer = settings.model_copy(update={"max_response_tokens": 66})
    with pytest.raises(SettingsError, match=r"base.max_response_tokens: 60 and 66 given.* is short of 1 positions"):
        load_base(record, longer)


def test_a_model_that_a_stage_wrote_and_somebody_removed_is_no_fault_of_the_settings(tmp_path):
    record = prepare_base(rows(), SETTINGS, 1, tmp_path)
    rmtree(record.path)
    with pytest.raises(
        BaseModelError, match=r"base stage recorded, cannot be loaded: .* Next: run the base stage"
    ) as raised:
        load_base(record, SETTINGS)
    assert "base.path" not in str(raised.value)


def test_a_path_that_is_no_model_says_what_to_do(tmp_path):
    settings = SETTINGS.model_copy(update={"path": str(tmp_path / "nowhere")})

    with pytest.raises(BaseModelError, match=r"base\.path.*null trains the embedded default"):
        prepare_base([], settings, 1, tmp_path)


def test_the_fingerprint_names_weights_architecture_and_tokenizer(tokenizer):
    def named(model, its_tokenizer=tokenizer):
        return fingerprint_of_model(model, its_tokenizer)

    first, same, other = (tiny_model("llama", tokenizer, seed) for seed in (0, 0, 1))
    assert named(first) == named(same) != named(other)

    same.config.rms_norm_eps *= 10
    assert named(first) != named(same)
    same.config.rms_norm_eps /= 10
    assert named(first, train_tokenizer(["other words"], 300)) != named(first)
    with torch.no_grad():
        same.get_submodule("model.layers.0.mlp.up_proj").weight[0, 0] += 1e-6
    assert named(first) != named(same)


def test_code_that_comes_with_a_model_is_never_run(saved_llama, tmp_path):
    """A folder whose config names a module of its own is refused without a question, and the module not imported."""
    config = json.loads((saved_llama / "config.json").read_text())
    config |= {"model_type": "surprise", "auto_map": {"AutoConfig": "m.C", "AutoModelForCausalLM": "m.M"}}
    (saved_llama / "config.json").write_text(json.dumps(config))
    (saved_llama / "m.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(BaseModelError):
        prepare_base([], SETTINGS.model_copy(update={"path": str(saved_llama)}), 1, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_base_that_was_moved_is_found_where_it_is(tmp_path):
    first = prepare_base(rows(), SETTINGS, 1, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")

    moved = prepare_base(rows(), SETTINGS, 1, tmp_path / "there")

    assert moved.path == first.path.replace("here", "there")
    assert load_base(moved, SETTINGS).record.fingerprint == first.fingerprint


def test_auto_takes_the_largest_shape_the_corpus_can_teach():
    assert shape_for("auto", 10) == SHAPES["tiny"]
    assert shape_for("auto", SHAPES["small"].from_words - 1) == SHAPES["mini"]
    assert shape_for("auto", SHAPES["medium"].from_words) == SHAPES["medium"]
    assert shape_for("small", 10**9) == SHAPES["small"]


def test_a_record_with_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="extra"):
        BaseRecord(path="", fingerprint="", family="", layers=1, parameters=1, extra=1)
