"""Every section on a base in bf16, as on a card, at a size that says nothing of speed: all do the same work."""

from __future__ import annotations

from dataclasses import replace

import generation
import pytest
import scaling
import searching
import torch
import training
from machine import Fastest, Rates
from opponents import in_bf16, with_loop, with_trainer
from sections import Given
from setting import SEED, Options, Setting, User, make_setting
from toys import WORDS, invented_rows

from imprint.base.loss import mean_loss
from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet
from imprint.memory.serve import Server
from imprint.memory.settings import MemorySettings
from imprint.memory.trainee import Job
from imprint.search.journal import Trial
from imprint.search.settings import SearchSettings, SpaceSettings

USERS, TRIALS = 2, 2


def _rates(fp32, bf16):
    """Of a product that takes no time to try."""
    return Rates(Fastest((8, 8, 8), torch.float32, fp32), Fastest((8, 8, 8), torch.bfloat16, bf16))


def _user(base, user_id):
    rows = base.encoder.examples(invented_rows(user_id, 24))
    return User(user_id, rows[:16], rows[16:22], [f"{user_id} {word}" for word in WORDS[:3]])


@pytest.fixture
def wide(llama, tmp_path):
    """A toy base in fp32 on a machine whose bf16 products are the faster ones."""
    options = Options(USERS, True, "cpu", "llama-toy", USERS, TRIALS, (USERS,), str(tmp_path))
    memory = MemorySettings(fixed_config=_config(), batch_rows=4)
    space = SpaceSettings(layer_groups=2, n_memories=(1, 2), epochs=(1, 2))
    search = SearchSettings(scope="user", trials=TRIALS, startup_trials=1, warm_start=1, min_gain=0.0, space=space)
    people = [_user(llama, f"u{number}") for number in range(USERS + 1)]
    searched = _config(ranks=(0, 4))
    setting = Setting(llama, people[:USERS], people[USERS:], memory, search, searched, "cpu")
    return Given(options, setting, _rates(fp32=1e9, bf16=2e9))


@pytest.fixture
def narrow(wide):
    """The same on a base in bf16: what a card is given."""
    return replace(wide, setting=in_bf16(wide.setting))


def _config(**changes):
    few = {"ranks": (0, 2), "targets": ("up", "down"), "alpha_ratio": 2.0, "n_memories": 1, "learning_rate": 5e-3}
    return MemoryConfig(**{**few, "epochs": 2, **changes})


def _fleet_memory(setting, user, config):
    fleet = Fleet(setting.base, setting.fleet, SEED, setting.batch_rows)
    return fleet.train([Job(user.user_id, user.examples, config)])[0].memory


def _scored(setting, memory, rows):
    return mean_loss(Server(setting.base, 1).score([memory] * len(rows), rows))


@pytest.mark.parametrize("episodes", [1, 3])
def test_the_trainer_makes_the_memory_that_the_fleet_makes_episode_by_episode(wide, episodes):
    """Held against each other on rows that neither was trained on; one episode less would be noticed."""
    setting, user = wide.setting, wide.setting.users[0]
    config = _config(n_memories=episodes, learning_rate=2e-2, epochs=4)
    run = with_trainer(setting, config, user, user.validation)
    assert run.scored == pytest.approx(
        _scored(setting, _fleet_memory(setting, user, config), user.validation), rel=1e-5
    )
    other = _scored(setting, _fleet_memory(setting, user, _config(n_memories=2, learning_rate=2e-2)), user.validation)
    assert run.scored != pytest.approx(other, rel=1e-4)


def test_a_setting_has_other_pilots_than_users_and_no_row_in_two_splits(tmp_path):
    """That of a randomly initialised LLaMA; its users' rows are counted and split as the default run splits them."""
    options = Options(USERS, True, "cpu", "llama-toy", USERS, TRIALS, (USERS,), str(tmp_path))
    setting = make_setting(replace(options, slots=3), USERS)
    assert setting.fleet.slots == 3
    assert setting.fleet.crew == make_setting(options, USERS).fleet.crew
    assert len(setting.users) == USERS
    assert not {user.user_id for user in setting.users} & {pilot.user_id for pilot in setting.pilots}
    for user in (*setting.users, *setting.pilots):
        assert (len(user.examples), len(user.validation), len(user.queries)) == (18, 3, 3)
        assert not {row.record_id for row in user.examples} & {row.record_id for row in user.validation}


def test_training_is_the_same_work_in_bf16_and_the_loop_then_runs_in_nothing_else(narrow):
    found = training.measure(narrow)
    assert found.numbers["loss_gap"] < 0.01
    assert found.numbers["loop"] == training.LOOP_BF16
    assert training.LOOP_FP32 not in found.numbers["train_seconds_per_user"]
    assert "the base is in bf16" in {what: why for what, _, why in found.lines}["the loop it is held against"]


def test_the_loop_learns_in_bf16_what_it_learns_in_fp32(wide, narrow):
    """Under a cast that is kept from step to step the loss would stay where it began."""
    user, config = wide.setting.users[0], _config(learning_rate=2e-2, epochs=8)
    whole, half = (with_loop(one.setting, config, user, bf16=one is narrow).final_loss for one in (wide, narrow))
    assert half == pytest.approx(whole, rel=0.01)
    start = with_loop(wide.setting, _config(learning_rate=1e-9, epochs=8), user, bf16=False).final_loss
    assert whole < 0.95 * start


def test_the_loop_tries_bf16_only_where_its_products_are_faster(wide):
    slow = replace(wide, rates=_rates(fp32=2e9, bf16=1e9))
    assert training.LOOP_BF16 not in training.contenders(slow)
    assert training.contenders(wide).keys() > {training.LOOP_FP32, training.LOOP_BF16}


def test_a_share_is_of_what_the_machine_gave_beside_the_same_training():
    """A machine at half its speed slows a fleet and a product alike; one odd training decides nothing."""
    fleet = training.Contender(seconds=[1.0, 2.0, 1.0], beside=[200.0, 100.0, 50.0])
    assert training.share_beside(80.0, fleet) == pytest.approx(0.4)


def _trial(tid, changes, loss):
    config = _config(**changes).model_dump(mode="json")
    return Trial(study="user/u", tid=tid, values={}, config=config, status="ok", objective_value=loss)


FOUND = {"u": [_trial(0, {"epochs": 2}, 2.0), _trial(1, {"epochs": 4}, 1.0)], "v": [_trial(0, {"epochs": 2}, 2.0)]}


def test_seconds_a_trial_are_over_the_trials_of_all_users():
    assert searching.Found(6.0, FOUND).per_trial == 2.0


@pytest.mark.parametrize(
    ("trials", "same_choice", "loss_gap"),
    [
        (FOUND["u"], 1.0, 0.0),
        ([_trial(0, {"epochs": 2}, 2.5), _trial(1, {"epochs": 4}, 1.1)], 1.0, 0.25),
        ([_trial(0, {"epochs": 2}, 0.9), _trial(1, {"epochs": 4}, 1.0)], 0.0, 0.55),
        ([_trial(0, {"epochs": 2}, 2.0), _trial(1, {"epochs": 6}, 0.5)], 0.0, 0.0),  # another config: no counterpart
    ],
)
def test_another_choice_and_another_loss_are_noticed(trials, same_choice, loss_gap):
    found = searching.agreement({"u": trials}, FOUND, min_gain=0.0)
    assert found == (same_choice, pytest.approx(loss_gap))


def test_a_config_is_chosen_by_the_runs_rule():
    """Below `min_gain` both keep the first config, whatever the order of the losses."""
    worse = [_trial(0, {"epochs": 2}, 0.9), _trial(1, {"epochs": 4}, 1.0)]
    assert searching.agreement({"u": worse}, FOUND, min_gain=1.5).same_choice == 1.0


def test_all_ways_to_search_agree_and_their_trials_are_counted(narrow):
    numbers = searching.measure(narrow).numbers
    assert numbers["search_users"] == {searching.ALONE: USERS, searching.PEFT: USERS, searching.LOCKSTEP: USERS}
    assert max(numbers["search_loss_gap"].values()) < 0.01
    seconds = numbers["search_seconds_per_trial"]
    lockstep, population = seconds[searching.LOCKSTEP], numbers["population_seconds_per_model"]
    assert numbers["trials_ratio"] == pytest.approx(seconds[searching.PEFT] / lockstep)
    assert numbers["trials_ratio_same_engine"] == pytest.approx(seconds[searching.ALONE] / lockstep)
    assert numbers["trials_per_hour"] == pytest.approx(3600 / lockstep)
    assert numbers["user_over_population"] == pytest.approx(lockstep / population)


def test_the_same_studies_alone_and_the_same_trials_by_peft_come_to_the_same_losses(wide):
    """In fp32: another config, or another start of a study, would show."""
    numbers = searching.measure(wide).numbers
    assert numbers["search_same_choice"][searching.ALONE] == 1
    assert numbers["search_same_choice"][searching.PEFT] == 1
    assert 0 < max(numbers["search_loss_gap"].values()) < 1e-4


def test_failed_trials_end_the_section_because_they_take_no_time(wide):
    """A user of one row: a config of two episodes cannot be trained, and fails at once."""
    poor = wide.setting.users[0]._replace(examples=wide.setting.users[0].examples[:1])
    space = SpaceSettings(layer_groups=2, n_memories=(1, 2), epochs=(2,))
    search = wide.setting.search.model_copy(update={"trials": 4, "space": space})
    setting = replace(wide.setting, users=[poor], pilots=[poor], search=search)
    with pytest.raises(SystemExit, match="trials failed, and what they took says nothing"):
        searching.measure(replace(wide, setting=setting))


def test_generation_writes_the_same_texts_on_a_base_in_bf16_or_says_how_many(narrow):
    numbers = generation.measure(narrow).numbers
    assert numbers["generate_tokens_per_text"] > 5
    assert 0 <= numbers["generate_equal_texts"] <= 1


def test_a_size_is_trained_into_a_store_of_all_its_users(narrow):
    found = scaling.train_once(narrow.setting)
    assert found["users"] == USERS
    one = _fleet_memory(narrow.setting, narrow.setting.users[0], narrow.setting.fixed)
    assert found["memories_mib"] == pytest.approx(USERS * one.bytes / 2**20)
    assert found["before_mib"] > 0
    assert found["peak_mib"] > found["before_mib"] - 1  # so small a training adds pages, which Linux counts in batches


def test_the_population_is_searched_once_and_every_study_begins_at_its_best_points(wide, tmp_path):
    """What is timed for users is theirs alone: the population's trials are found in the journal."""
    setting = wide.setting
    searching.evaluated(setting.pilots, [], setting, tmp_path / "population")
    before = (next((tmp_path / "population").rglob("population.jsonl"))).read_bytes()
    found = searching.studies(setting.users[:1], setting, tmp_path, "one")
    assert next((tmp_path / "one").rglob("population.jsonl")).read_bytes() == before
    assert [len(trials) for trials in found.trials.values()] == [TRIALS]
