"""How many users share a pass, and whether layers are computed twice: arithmetic on measured peaks."""

import pytest
import torch
from fleets import MIXED, SEED, assert_same_memory, fleet, job
from toys import invented_rows

from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet
from imprint.memory.room import MOST_SLOTS, Room, bytes_for_steps, room_on_card, room_on_cpu, slots_that_fit
from imprint.memory.settings import CPU_SLOTS, FleetSettings
from imprint.memory.trainee import Job, Trainee

AUTO = FleetSettings()


@pytest.mark.parametrize(
    ("one", "two", "available", "slots"),
    [
        (100, 150, 99, 0),  # not even one
        (100, 150, 100, 1),
        (100, 150, 149, 1),
        (100, 150, 150, 2),
        (100, 150, 399, 6),  # 100 + 5 · 50 = 350; a seventh would make 400
        (100, 150, 400, 7),
        (100, 150, 10**9, MOST_SLOTS),
        (100, 100, 1000, MOST_SLOTS),  # another user costs nothing that can be measured
        (100, 90, 1000, MOST_SLOTS),
        (None, None, 10**9, 0),  # it ran out of memory
        (100, None, 10**9, 1),
    ],
)
def test_slots_that_fit(one, two, available, slots):
    assert slots_that_fit(one, two, available) == slots


def card(fixed, each, fixed_again, each_again, memory=10**9):
    """Peaks of a made-up base, layers kept and recomputed, on a card of so many bytes; and what was measured."""
    asked = []

    def peak(slots, recompute):
        asked.append((slots, recompute))
        size = fixed_again + each_again * slots if recompute else fixed + each * slots
        return size if size <= memory else None

    return peak, asked


def test_layers_are_kept_where_a_user_fits():
    peak, asked = card(100, 200, 50, 20)
    assert room_on_card(AUTO, peak, 1000) == Room(4, False)
    assert (1, True) not in asked


@pytest.mark.parametrize("memory", [10**9, 290])
def test_layers_are_recomputed_where_not_one_user_would_fit(memory):
    """By the sizes, or because the step itself ran out of memory."""
    peak, _ = card(100, 200, 50, 20, memory)
    assert room_on_card(AUTO, peak, 299) == Room(12, True)


def test_what_the_settings_say_is_not_measured():
    peak, asked = card(100, 200, 50, 20)
    told = FleetSettings(slots=5, checkpoint_layers=False)
    assert room_on_card(told, peak, 1) == Room(5, False)
    assert asked == []
    assert room_on_card(FleetSettings(slots=5), peak, 1000) == Room(5, False)
    assert room_on_card(FleetSettings(slots=5), peak, 299) == Room(5, True)
    assert room_on_card(FleetSettings(checkpoint_layers=True), peak, 299) == Room(12, True)
    assert room_on_card(FleetSettings(checkpoint_layers=False), peak, 99) == Room(1, False)  # one is the least


def test_on_a_cpu_auto_is_what_was_measured_before():
    assert room_on_cpu(AUTO) == Room(CPU_SLOTS, False) == Room(8, False)
    assert room_on_cpu(FleetSettings(slots=3, checkpoint_layers=True)) == Room(3, True)
    assert (AUTO.scoring_slots, FleetSettings(slots=3).scoring_slots) == (8, 3)


def test_what_the_crew_and_the_kept_inputs_take_is_left_to_them():
    """12 bytes a weight of each memory in training, and the budget of inputs; the rest of the share is for steps."""
    settings = FleetSettings(crew=10, cache_mib=1, free_share=0.5)
    assert bytes_for_steps(settings, 10_000_000, 1000, 2**20) == 5_000_000 - 10 * 1000 * 12 - 2**20


@pytest.mark.parametrize("bad", [{"slots": 0}, {"slots": "many"}, {"free_share": 0}, {"checkpoint_layers": "some"}])
def test_what_no_fleet_can_have_is_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FleetSettings(**bad)


@pytest.mark.usefixtures("one_lane")
def test_auto_trains_what_a_number_trains(mixed):
    auto = Fleet(mixed.base, AUTO, SEED, 4).train(mixed.jobs)
    for got, wanted in zip(auto, mixed.oracle, strict=True):
        assert_same_memory(got, wanted)


def test_a_measurement_takes_the_widest_step_and_leaves_the_job_as_it_is(llama):
    """Of the job with the most tokens times layers above its lowest memory."""
    config = MemoryConfig(**{**MIXED[0][2].model_dump(), "epochs": 2})
    deep = config.model_copy(update={"ranks": (0, 0, 2)})
    cpu = torch.device("cpu")
    trainee, later, small = (
        Trainee(0, Job("u1", llama.encoder.examples(invented_rows("u1", rows)), one), llama, SEED, 4)
        for rows, one in ((17, config), (17, deep), (3, config))
    )
    assert trainee.load == 3 * later.load  # from layer 1's feed-forward on, against layer 2's
    assert trainee.load > later.load
    assert trainee.load > small.load
    before = trainee.begin(cpu).rows

    widest = trainee.at_widest(cpu)

    assert widest.tokens == max(sum(len(row.input_ids) for row in step) for step in trainee._plan)
    assert widest.tokens > min(sum(len(row.input_ids) for row in step) for step in trainee._plan)
    widest.state.add_(1)
    widest.advance(torch.tensor(1.0))
    assert trainee.rows == before
    assert (trainee.step, trainee.cost, trainee._losses) == (0, 0, [])
    assert not torch.equal(trainee.state, widest.state)


def test_the_widest_step_is_that_of_any_episode(llama):
    """Rows that grow longer with the years: the last episode is the one that has to fit."""
    config = MemoryConfig(**{**MIXED[0][2].model_dump(), "n_memories": 2, "epochs": 1})
    rows = sorted(llama.encoder.examples(invented_rows("u1", 8)), key=lambda row: len(row.input_ids))
    trainee, short = (Trainee(0, Job("u1", given, config), llama, SEED, 4) for given in (rows, rows[:4] * 2))
    longest = sum(len(row.input_ids) for row in rows[4:])

    widest = trainee.begin(torch.device("cpu")).at_widest(torch.device("cpu"))

    assert (widest.number, widest.tokens) == (1, longest)
    assert trainee.number == 0
    assert trainee.load / short.load == longest / sum(len(row.input_ids) for row in rows[:4])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_card_slots_are_measured_and_memories_stay_the_same(llama, caplog):
    from copy import deepcopy
    from dataclasses import replace

    on_card = replace(llama, model=deepcopy(llama.model).to("cuda"))
    jobs = [job(on_card, *one) for one in MIXED]
    with caplog.at_level("INFO", "imprint.memory.fleet"):
        measured = Fleet(on_card, AUTO, SEED, 4).train(jobs)
    assert f"{MOST_SLOTS} users in a pass, layers kept" in caplog.text  # a toy fits as often as may be
    for got, wanted in zip(measured, fleet(on_card).train(jobs), strict=True):
        assert_same_memory(got, wanted)
