"""Off the CPU: no operation mixes devices (shown without a card), and on a card all results are a CPU's."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from fleets import BATCH_ROWS, MIXED, SEED, assert_same_memory, bits, fleet, job
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toys import invented_rows

from imprint.base.load import load_base, prepare_base
from imprint.base.placement import cast
from imprint.base.settings import BaseSettings, EmbeddedSettings, FitSettings
from imprint.errors import BaseModelError
from imprint.memory.fleet import _Lane
from imprint.memory.serve import Server
from imprint.memory.settings import EarlyStopping, FleetSettings
from imprint.memory.slots import Slots
from imprint.memory.trainee import Trainee
from imprint.memory.trainer import train_memory
from imprint.search.scoping import history_vectors

PATIENT = EarlyStopping(patience=1)
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
NO_DATA = "Cannot copy out of meta tensor|cannot be called on meta tensors"
"""How a pass on the meta device ends, once its result is asked for: by then everything was computed."""


class MixedDevicesError(Exception):
    """What a card would refuse."""


class OneDevice(TorchDispatchMode):
    """Within the block an operation on tensors of two devices raises, but for copies from one to the other."""

    operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim()}
        if len(devices) > 1 and func not in COPIES:
            raise MixedDevicesError(f"{func} on {[(tensor.device.type, tuple(tensor.shape)) for tensor in tensors]}")
        self.operations += "meta" in devices
        return func(*args, **(kwargs or {}))


def elsewhere(base, device, dtype=torch.float32):
    return replace(base, model=cast(deepcopy(base.model), dtype).to(device))


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def absent(request, base):
    """A base on the meta device, which has shapes and no numbers: every operation happens but the arithmetic."""
    return elsewhere(base, "meta", request.param)


def some_jobs(base):
    rows = base.encoder.examples(invented_rows("v", 20, seed=3))
    return [job(base, *one, validation=rows) for one in MIXED]


def test_training_keeps_to_one_device(absent):
    """Steps of slots that are alike, unlike, and of several episodes; kept inputs; judging; the next episode."""
    lane = _Lane(absent, Trainee, FleetSettings(slots=3, crew=4), 1)
    everybody = [Trainee(n, one, absent, SEED, BATCH_ROWS, PATIENT) for n, one in enumerate(some_jobs(absent))]
    with OneDevice() as watched:
        crew = [trainee.begin(torch.device("meta")) for trainee in everybody]
        for members in (crew[:3], crew[3:5], crew[5:], crew[1:3], [crew[0], crew[6]]):
            slots = Slots(members)
            lane._step(slots)
            slots.put_back()
        assert all(trainee.state.device.type == "meta" for trainee in crew)
        crew[1].next_episode()
        with pytest.raises((NotImplementedError, RuntimeError), match=NO_DATA):
            lane._judge(crew[:3])
    assert watched.operations > 1000


def test_scoring_and_answering_keep_to_one_device(base, absent):
    memories = [one.memory for one in fleet(base).train(some_jobs(base)[:3])]
    rows = base.encoder.examples(invented_rows("u1", 3, seed=1))
    server = Server(absent, 4)
    for ask in (
        lambda: server.score(memories, rows),
        lambda: server.score([None] * 3, rows),
        lambda: server.respond([*memories, None], ["river", "green stone", "table", "cloud"], 3),
        lambda: history_vectors(absent, [type("User", (), {"train": rows})]),
    ):
        with (
            OneDevice() as watched,
            pytest.raises((NotImplementedError, RuntimeError, TypeError), match=NO_DATA + "|meta"),
        ):
            ask()
        assert watched.operations > 10


def test_two_devices_in_one_operation_are_noticed():
    with OneDevice(), pytest.raises(MixedDevicesError, match="bmm"):
        torch.bmm(torch.zeros(1, 2, 3, device="meta"), torch.zeros(1, 3, 2))


SETTINGS = BaseSettings(
    max_query_tokens=16,
    max_response_tokens=16,
    embedded=EmbeddedSettings(fit=FitSettings(learning_rate=3e-3, epochs=1)),
)
"""`base.device` and `base.dtype` are auto."""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(("device", "dtype"), [("auto", "auto"), ("cpu", "float32")])
def test_without_a_card_a_base_is_on_the_cpu_and_cuda_is_refused(saved_llama, tmp_path, device, dtype):
    settings = SETTINGS.model_copy(update={"path": str(saved_llama), "device": device, "dtype": dtype})
    record = prepare_base([], settings, 1, tmp_path)

    assert next(load_base(record, settings).model.parameters()).device.type == "cpu"
    with pytest.raises(BaseModelError, match=r"base\.device: cuda.*Next: set base\.device to auto"):
        load_base(record, settings.model_copy(update={"device": "cuda"}))


on_a_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@on_a_card
def test_a_base_is_loaded_and_trained_on_the_card(saved_llama, tmp_path):
    settings = SETTINGS.model_copy(update={"path": str(saved_llama)})
    loaded = load_base(prepare_base([], settings, 1, tmp_path), settings)
    assert all(weight.device.type == "cuda" for weight in loaded.model.parameters())
    rows = [row for user in range(5) for row in invented_rows(f"u{user}", 20)]
    assert load_base(prepare_base(rows, SETTINGS, 1, tmp_path), SETTINGS).record.parameters > 0


@pytest.mark.gpu
@on_a_card
def test_on_a_card_the_fleet_and_the_one_user_trainer_make_the_same_memories(base):
    """In fp32: close to each other, and close to what a CPU makes; with early stopping too."""
    card = elsewhere(base, "cuda")
    jobs = some_jobs(base)
    for patience in (None, PATIENT):
        on_cpu = fleet(base, early_stopping=patience).train(jobs)
        together = fleet(card, early_stopping=patience).train(jobs)
        for one, got, wanted in zip(jobs, together, on_cpu, strict=True):
            alone = train_memory(
                card, one.user_id, one.examples, one.config, SEED, BATCH_ROWS, one.validation, patience
            )
            for ours, theirs, theirs_on_cpu in zip(got.fitted, alone.fitted, wanted.fitted, strict=True):
                assert ours.final_loss == pytest.approx(theirs.final_loss, rel=1e-3)
                assert ours.final_loss == pytest.approx(theirs_on_cpu.final_loss, rel=1e-3)
            assert all(factor.device.type == "cpu" for factor in bits([got]))


@pytest.mark.gpu
@on_a_card
def test_on_a_card_slots_and_company_change_nothing(base):
    card = elsewhere(base, "cuda")
    jobs = some_jobs(base)
    for slots in (1, 7):
        for got, wanted in zip(fleet(card, slots, 8).train(jobs), fleet(card).train(jobs), strict=True):
            assert_same_memory(got, wanted)


@pytest.mark.gpu
@on_a_card
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_card_scores_and_answers_are_a_cpus(base, dtype):
    card = elsewhere(base, "cuda", dtype)
    memories = [one.memory for one in fleet(base).train(some_jobs(base)[:3])]
    rows = base.encoder.examples(invented_rows("u1", 3, seed=1))
    far = 1e-4 if dtype == torch.float32 else 2e-2

    scored, wanted = Server(card, 4).score(memories, rows), Server(base, 4).score(memories, rows)
    assert [row.nats for row in scored] == pytest.approx([row.nats for row in wanted], rel=far)
    texts = [Server(one, 4).respond([*memories, None], ["river", "green", "table", "cloud"], 5) for one in (card, base)]
    assert len(texts[0]) == len(texts[1]) == 4
    if dtype == torch.float32:
        assert texts[0] == texts[1]
