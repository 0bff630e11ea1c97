"""The number format of a base: measured or given, in the name of what is trained on it, and close to fp32."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from families import every_family
from fleets import BATCH_ROWS, MIXED, SEED, fleet, job
from toys import invented_rows, score_alone
from transformers import AutoModelForCausalLM

from imprint.base import placement
from imprint.base.halves import in_halves
from imprint.base.load import in_full, load_base, prepare_base
from imprint.base.loss import mean_loss
from imprint.base.placement import bfloat16_speed, cast, format_for
from imprint.base.settings import BaseSettings, EmbeddedSettings, FitSettings, PooledSettings
from imprint.errors import BaseModelError
from imprint.memory.pooled import pool
from imprint.memory.serve import Server
from imprint.memory.settings import MemorySettings
from imprint.memory.trainer import train_memory
from imprint.memory.training import format_of, trained_by

FIT = FitSettings(learning_rate=3e-3, epochs=2, batch_rows=16)
EMBEDDED = EmbeddedSettings(size="tiny", fit=FIT)
SETTINGS = BaseSettings(dtype="float32", max_query_tokens=16, max_response_tokens=16, embedded=EMBEDDED)
CPU, CARD = torch.device("cpu"), torch.device("cuda")


def in_half(base):
    """The same base in bf16."""
    return replace(base, model=cast(deepcopy(base.model), torch.bfloat16))


@pytest.fixture
def any_width_counts(monkeypatch):
    """The toys are measured like bases that are not tiny."""
    monkeypatch.setattr(placement, "TINY", 1)


def test_bfloat16_is_taken_from_one_and_a_half_times_the_speed_on(llama, monkeypatch):
    """On a card and for wide bases; for narrow ones on a CPU in training alone; by a site's narrower side."""
    width = min(llama.sites[0].in_features, llama.sites[0].out_features)
    for speed in (0.2, 1.0, 1.49, 1.5, 8.0):
        monkeypatch.setattr(placement, "bfloat16_speed", lambda *_, speed=speed: speed)
        fast = speed >= 1.5
        assert format_for("auto", llama.model, CARD) == ("bfloat16" if fast else "float32")
        for narrow, tiny, taken in (
            (width, width, "bfloat16"),
            (width + 1, width, "mixed"),
            (width + 1, width + 1, "float32"),
        ):
            monkeypatch.setattr(placement, "NARROW", narrow)
            monkeypatch.setattr(placement, "TINY", tiny)
            assert format_for("auto", llama.model, CPU) == (taken if fast else "float32")


@pytest.mark.usefixtures("any_width_counts")
def test_auto_measures_a_product_of_the_models_largest_shape(llama, monkeypatch, caplog):
    """On the device asked for, once a process; and says in the log what it found."""
    bfloat16_speed.cache_clear()
    asked = []

    def seconds(device, width_in, width_out, dtype):
        asked.append((device, {width_in, width_out}, dtype))
        return {torch.float32: 8.0, torch.bfloat16: 2.0}[dtype]

    monkeypatch.setattr(placement, "_seconds", seconds)
    with caplog.at_level("INFO", "imprint.base.placement"):
        found = [format_for("auto", llama.model, CPU) for _ in range(2)]
    bfloat16_speed.cache_clear()

    assert found == ["mixed"] * 2
    assert asked == [("cpu", {32, 48}, torch.float32), ("cpu", {32, 48}, torch.bfloat16)] * placement.TURNS
    assert "4.0 times as fast" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("disturbed", [torch.float32, torch.bfloat16])
def test_who_else_is_at_work_for_a_moment_does_not_decide_the_format(monkeypatch, disturbed):
    bfloat16_speed.cache_clear()
    turns = dict.fromkeys((torch.float32, torch.bfloat16), 0)

    def seconds(device, width_in, width_out, dtype):
        turns[dtype] += 1
        slowed = 4 if dtype == disturbed and turns[dtype] <= placement.TURNS // 2 else 1
        return {torch.float32: 6.0, torch.bfloat16: 3.0}[dtype] * slowed

    monkeypatch.setattr(placement, "_seconds", seconds)
    speed = bfloat16_speed("cpu", 32, 48)
    bfloat16_speed.cache_clear()
    assert speed == pytest.approx(2.0)


def test_what_is_asked_for_is_not_measured(llama, monkeypatch):
    monkeypatch.setattr(placement, "bfloat16_speed", lambda *_: pytest.fail("measured"))
    for wanted in ("float32", "mixed", "bfloat16"):
        assert format_for(wanted, llama.model, CPU) == wanted


@pytest.mark.usefixtures("any_width_counts")
def test_the_measurement_itself_runs_here(llama):
    bfloat16_speed.cache_clear()
    assert bfloat16_speed("cpu", 32, 48) > 0
    assert format_for("auto", llama.model, CPU) in ("float32", "mixed")


@pytest.mark.usefixtures("any_width_counts")
@every_family
def test_a_family_that_is_not_run_in_halves_is_not_mixed(base, monkeypatch):
    monkeypatch.setattr(placement, "bfloat16_speed", lambda *_: 4.0)
    if in_halves(base.model):
        assert format_for("auto", base.model, CPU) == "mixed"
        with pytest.raises(BaseModelError, match=r"base\.dtype: mixed was asked for, on cuda.*Next: set base\.dtype"):
            format_for("mixed", base.model, CARD)
        return
    assert format_for("auto", base.model, CPU) == "float32"
    with pytest.raises(BaseModelError, match=r"a \w+ model; it is for a CPU and llama, mistral, qwen2"):
        format_for("mixed", base.model, CPU)


def test_a_base_is_loaded_in_the_format_of_the_settings(saved_llama, tmp_path):
    """Checked against its record before its digits are cut; in bf16 what is trained on it has another name."""
    settings = SETTINGS.model_copy(update={"path": str(saved_llama)})
    record = prepare_base([], settings, 1, tmp_path)
    formats = ("float32", "mixed", "bfloat16")
    whole, mixed, half = (load_base(record, settings.model_copy(update={"dtype": one})) for one in formats)

    assert (whole.dtype, mixed.dtype, half.dtype) == ("float32", "float32", "bfloat16")
    assert (whole.mixed, mixed.mixed, half.mixed) == (False, True, False)
    assert all(map(torch.equal, whole.model.parameters(), mixed.model.parameters()))
    assert mixed.reading == whole.reading  # but not where a fleet trains on it
    assert all(weight.dtype == torch.bfloat16 for weight in half.model.parameters())
    assert whole.reading == [record.fingerprint, 16, 16]  # as it was before there was a choice
    assert half.reading == [record.fingerprint, 16, 16, "bfloat16"]


def test_a_base_in_bf16_is_what_hugging_face_loads_in_bf16(saved_llama, tmp_path):
    """Also far into a row: frequencies of rotary embeddings in bf16 would turn late positions elsewhere."""
    settings = SETTINGS.model_copy(update={"path": str(saved_llama), "dtype": "bfloat16"})
    half = load_base(prepare_base([], settings, 1, tmp_path), settings).model
    theirs = AutoModelForCausalLM.from_pretrained(saved_llama, dtype=torch.bfloat16).eval()
    ids = torch.arange(5, 125)[None] % 300

    with torch.no_grad():
        assert torch.equal(half(ids).logits, theirs(ids).logits)
        assert not torch.equal(half.to(torch.bfloat16)(ids).logits, theirs(ids).logits)


def test_an_embedded_base_is_the_same_whatever_it_computes_in_later(tmp_path):
    rows = [row for user in range(5) for row in invented_rows(f"u{user}", 20)]
    first = prepare_base(rows, SETTINGS, 1, tmp_path)
    half = SETTINGS.model_copy(update={"dtype": "bfloat16"})

    assert prepare_base(rows, half, 1, tmp_path, lambda *_: pytest.fail("trained twice")) == first


def test_what_is_pooled_is_merged_in_full(saved_llama, tmp_path):
    """The pooled model of a bf16 base keeps the digits of the fp32 weights, and is loaded like any other."""
    settings = SETTINGS.model_copy(update={"path": str(saved_llama), "dtype": "bfloat16"})
    base = load_base(prepare_base([], settings, 1, tmp_path), settings)
    few = FitSettings(learning_rate=1e-3, epochs=1, batch_rows=8)

    record = pool(base, invented_rows("u1", 12), PooledSettings(fit=few), 1, tmp_path)

    pooled, before = load_base(record, SETTINGS), in_full(base)
    assert record.training["base_dtype"] == "bfloat16"
    for (name, weight), old in zip(pooled.model.named_parameters(), before.model.parameters(), strict=True):
        if "mlp" in name:
            assert 0 < (weight - old).abs().max() < 0.1
            assert not torch.equal(weight, weight.to(torch.bfloat16).float())
        else:
            assert torch.equal(weight, old)


@pytest.mark.parametrize("trainer", ["fleet", "one_user"])
def test_memories_on_a_bf16_base_are_fp32_and_their_losses_close_to_those_on_fp32(base, trainer):
    jobs = [job(base, *one) for one in MIXED[:5]]

    def trained(on):
        if trainer == "fleet":
            return fleet(on).train(jobs)
        return [train_memory(on, one.user_id, one.examples, one.config, SEED, BATCH_ROWS) for one in jobs]

    whole, half = trained(base), trained(in_half(base))

    for one, other in zip(whole, half, strict=True):
        for ours, theirs in zip(other.fitted, one.fitted, strict=True):
            assert ours.final_loss == pytest.approx(theirs.final_loss, rel=0.02)
        for episode in other.memory.episodes:
            for factor in (part for pair in episode.factors.values() for part in pair):
                assert factor.dtype == torch.float32
                assert factor.isfinite().all()
    # they are not the same numbers: the base did compute in bf16
    assert whole[0].fitted[0].final_loss != half[0].fitted[0].final_loss


def test_only_what_a_fleet_trains_on_a_mixed_base_is_named_so(llama):
    fleet_, alone = (MemorySettings(trainer=one, fixed_config=MIXED[0][2]) for one in ("fleet", "one_user"))
    mixed = replace(llama, mixed=True)

    assert [format_of(mixed, one) for one in (fleet_, alone)] == ["mixed", "float32"]
    assert [format_of(llama, one) for one in (fleet_, alone)] == ["float32"] * 2
    assert trained_by(mixed, fleet_, SEED) != trained_by(llama, fleet_, SEED)
    assert trained_by(mixed, alone, SEED) == trained_by(llama, alone, SEED)


def test_a_model_of_another_activation_is_not_mixed(llama, monkeypatch):
    """Its feed-forward is Hugging Face's own, which wants what its weights are in."""
    monkeypatch.setattr(placement, "TINY", 1)
    monkeypatch.setattr(placement, "bfloat16_speed", lambda *_: 4.0)
    for layer in llama.model.model.layers:
        layer.mlp.act_fn = torch.nn.GELU()
    assert in_halves(llama.model)
    assert format_for("auto", llama.model, CPU) == "float32"
    with pytest.raises(BaseModelError, match="with SiLU"):
        format_for("mixed", llama.model, CPU)


@pytest.mark.parametrize("base", ["llama", "qwen2"], indirect=True)
def test_memories_of_mixed_training_are_close_to_those_of_fp32(base):
    """Losses within 1 %, and each weight nearer to fp32's than to where it began; all of it stays in fp32."""
    jobs = [job(base, *one) for one in MIXED[:5]]
    whole, mixed = (fleet(on).train(jobs) for on in (base, replace(base, mixed=True)))

    assert whole[0].fitted[0].final_loss != mixed[0].fitted[0].final_loss
    for one, other in zip(whole, mixed, strict=True):
        for ours, theirs in zip(other.fitted, one.fitted, strict=True):
            assert ours.final_loss == pytest.approx(theirs.final_loss, rel=0.01)
        for ours, theirs in zip(other.memory.episodes, one.memory.episodes, strict=True):
            for name, factors in ours.factors.items():
                learned = theirs.factors[name].b
                assert factors.b.dtype == torch.float32
                assert (factors.b - learned).norm() < 0.5 * learned.norm()  # B began at zero
    assert {weight.dtype for weight in base.model.parameters()} == {torch.float32}


def test_mixed_training_repeats_and_depends_on_no_company(llama):
    """Bit for bit alone twice; among strangers as close as bf16 can tell."""
    mixed = replace(llama, mixed=True)
    jobs = [job(mixed, *one) for one in MIXED[:4]]
    alone, again = (fleet(mixed).train(jobs[:1])[0] for _ in range(2))
    among = fleet(mixed).train(jobs)[0]

    for name, factors in alone.memory.episodes[0].factors.items():
        assert torch.equal(factors.b, again.memory.episodes[0].factors[name].b)
        other = among.memory.episodes[0].factors[name].b
        assert (factors.b - other).norm() < 0.05 * factors.b.norm()


def test_a_mixed_base_scores_and_answers_in_fp32(llama):
    rows = llama.encoder.examples(invented_rows("u1", 12, seed=1))
    memory = fleet(llama).train([job(llama, *MIXED[0])])[0].memory
    whole, mixed = (Server(on, 4).score([memory] * 12, rows) for on in (llama, replace(llama, mixed=True)))
    assert whole == mixed


def test_scores_and_answers_on_a_bf16_base(base):
    """Scores within 2 % of those in fp32; a bf16 base answers."""
    rows = base.encoder.examples(invented_rows("u1", 12, seed=1))
    memory = fleet(base).train([job(base, *MIXED[0])])[0].memory
    half = Server(in_half(base), 4)

    whole = mean_loss(Server(base, 4).score([memory] * 12, rows))
    assert mean_loss(half.score([memory] * 12, rows)) == pytest.approx(whole, rel=0.02)
    assert mean_loss(half.score([None] * 12, rows)) == pytest.approx(mean_loss(score_alone(base.model, rows)), rel=0.02)
    assert len(half.respond([memory, None], ["green river", "table"], 4)) == 2
