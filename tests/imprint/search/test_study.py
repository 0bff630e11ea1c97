"""Studies: asked and told, resumed, refused, failed; their journal is their only state."""

import os
import random
import statistics
from collections import Counter

import pytest
from pydantic import ValidationError
from scipy.stats import chi2

from imprint.errors import SettingsError, TwoRunsError
from imprint.memory.config import MemoryConfig
from imprint.search.journal import Journal, Trial
from imprint.search.settings import SearchSettings, SpaceSettings
from imprint.search.space import memory_config, point_of
from imprint.search.study import Study

SPACE = SpaceSettings(layer_groups=3)


def toy_objective(config):
    """Known optimum: all rank in the last group, learning rate 3e-3."""
    from math import log

    wanted = (0, 0, 8)
    given = config.ranks * (3 // len(config.ranks))  # three alike are written as one
    misplaced = sum((a - b) ** 2 for a, b in zip(given, wanted, strict=True)) / 64
    return misplaced + log(config.learning_rate / 3e-3) ** 2 + 0.2 * (config.n_memories != 2)


def run(study, budget, objective=toy_objective):
    while study.remaining(budget) > 0:
        asked = study.ask()
        study.tell(asked, status="ok", objective_value=objective(asked.config))
        study.journal.end_round()
    return study.trials


def study_in(path, seed=1, sampler="tpe", space=SPACE):
    return Study(sampler, sampler, space, seed, Journal(path / f"{sampler}.jsonl"), startup_trials=4)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_resumed_study_repeats_an_uninterrupted_one(tmp_path, sampler):
    whole = run(study_in(tmp_path / "whole", sampler=sampler), 16)

    run(study_in(tmp_path / "cut", sampler=sampler), 7)
    resumed = run(study_in(tmp_path / "cut", sampler=sampler), 16)

    assert resumed == whole
    assert run(study_in(tmp_path / "other", seed=2, sampler=sampler), 16) != whole


def test_a_line_that_a_kill_cut_short_is_asked_for_again(tmp_path):
    whole = run(study_in(tmp_path / "whole"), 9)
    run(study_in(tmp_path / "cut"), 9)
    file = tmp_path / "cut" / "tpe.jsonl"
    file.write_bytes(file.read_bytes()[:-20])

    study = study_in(tmp_path / "cut")

    assert study.trials == whole[:-1]
    assert run(study, 9) == whole
    assert Journal(file).of("tpe") == whole


def test_a_config_without_any_memory_is_refused_written_down_and_never_evaluated(tmp_path):
    mostly_nothing = SpaceSettings(layer_groups=1, ranks=(0, 2))
    evaluated = []

    trials = run(study_in(tmp_path, space=mostly_nothing, sampler="random"), 6, lambda c: evaluated.append(c) or 1.0)

    refused = [trial for trial in trials if trial.status == "refused"]
    assert refused
    assert all("no layer a memory" in trial.error and trial.config is None for trial in refused)
    assert len(evaluated) == 6 == len(trials) - len(refused)
    assert [trial.tid for trial in trials] == list(range(len(trials)))


def test_a_failed_trial_is_recorded_and_the_study_goes_on(tmp_path):
    study = study_in(tmp_path)
    for number in range(8):
        asked = study.ask()
        outcome = (
            {"status": "failed", "error": "out of memory"} if number % 2 else {"status": "ok", "objective_value": 1.0}
        )
        study.tell(asked, **outcome)
        study.journal.end_round()

    assert [trial.status for trial in Journal(study.journal.path).of("tpe") if trial.status != "refused"] == [
        "ok",
        "failed",
    ] * 4


def test_tpe_beats_random_search_at_equal_budget(tmp_path):
    """The median over seeds of the best of 40 trials on a toy objective with a known optimum."""

    def best(sampler, seed):
        return min(
            trial.objective_value
            for trial in run(study_in(tmp_path / f"{sampler}{seed}", seed, sampler), 40)
            if trial.objective_value is not None
        )

    seeds = range(5)
    assert statistics.median(best("tpe", s) for s in seeds) < statistics.median(best("random", s) for s in seeds)


def test_every_proposal_lies_in_the_space(tmp_path):
    narrow = SpaceSettings(
        layer_groups=2, ranks=(1, 16), targets=(("down",),), alpha_ratios=(2.0,), n_memories=(3,), epochs=(5,),
        learning_rate=(1e-3, 2e-3),
    )  # fmt: skip
    for trial in run(study_in(tmp_path, space=narrow), 12, lambda config: random.random()):
        config = trial.config
        assert set(config["ranks"]) <= {1, 16}
        assert 1e-3 <= config["learning_rate"] <= 2e-3
        assert (config["targets"], config["n_memories"], config["epochs"]) == (["down"], 3, 5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"learning_rate": (0, 1e-2)}, "0 < low < high"),
        ({"learning_rate": (1e-2, 1e-3)}, "0 < low < high"),
        ({"ranks": (0,)}, "at least one above 0"),
        ({"ranks": (64,)}, "allowed are values of"),
        ({"n_memories": (5,)}, "allowed are 1 to 4"),
        ({"alpha_ratios": (0,)}, "greater than 0"),
        ({"epochs": (0,)}, "greater than or equal to 1"),
        ({"targets": ((),)}, "at least 1"),
        ({"layer_groups": 9}, "less than or equal to 8"),
        ({"dropout": 0.1}, "Extra inputs"),
    ],
)
def test_a_space_that_hyperopt_would_accept_in_silence_is_refused(given, says):
    with pytest.raises(ValidationError, match=says):
        SpaceSettings(**given)


def test_a_space_of_invalid_configs_ends_with_the_next_step(tmp_path, monkeypatch):
    study = study_in(tmp_path, space=SpaceSettings(layer_groups=1, ranks=(0, 1)))
    monkeypatch.setattr(
        Study,
        "_propose",
        lambda self, tid: (
            {"rank_0": [0]}
            | {label: [0] for label in ("targets", "alpha_ratio", "n_memories", "epochs")}
            | {"learning_rate": [1e-3]}
        ),
    )

    with pytest.raises(SettingsError, match="allow more ranks above 0"):
        study.ask()


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValidationError, match="population"):
        SearchSettings(scope="galaxy")


def test_a_trial_survives_the_round_trip(tmp_path):
    trial = Trial(study="tpe", tid=0, values={"a": [0.1]}, config={"ranks": [8]}, status="ok", objective_value=1 / 3)
    journal = Journal(tmp_path / "j.jsonl")
    journal.add(trial)
    journal.end_round()

    assert Journal(tmp_path / "j.jsonl").of("tpe") == [trial]


def test_a_round_is_kept_whole_or_not_at_all(tmp_path):
    """Studies in lockstep must not be a trial apart after a kill."""
    file = tmp_path / "j.jsonl"
    journal = Journal(file)
    for round_number in range(2):
        for study in ("user/u1", "user/u2"):
            journal.add(Trial(study=study, tid=round_number, values={}, config=None, status="failed", error="é"))
        journal.end_round()
    journal.add(Trial(study="user/u1", tid=2, values={}, config=None, status="failed", error="never ended"))
    for cut in (5, 60, 100):
        copy = tmp_path / f"cut{cut}.jsonl"
        copy.write_bytes(file.read_bytes()[:-cut])
        reopened = Journal(copy)
        assert [len(reopened.of(study)) for study in ("user/u1", "user/u2")] == [1, 1]
    assert [len(Journal(file).of(study)) for study in ("user/u1", "user/u2")] == [2, 2]


def failed(tid):
    return Trial(study="tpe", tid=tid, values={}, config=None, status="failed", error="x", seconds=1.0)


def test_two_runs_at_one_search_count_no_trial_twice_and_the_second_ends(tmp_path):
    file = tmp_path / "j.jsonl"
    first, second = Journal(file), Journal(file)
    for journal in (first, second):
        journal.add(failed(0))
    first.end_round()
    with pytest.raises(TwoRunsError, match=r"another run is at the same search\. Next: let one end"):
        second.end_round()
    first.add(failed(1))
    first.end_round()
    with file.open("ab") as stream:  # by a run that looked before the first wrote
        stream.write(file.read_bytes().splitlines(keepends=True)[0])

    assert [trial.tid for trial in Journal(file).of("tpe")] == [0, 1]


def test_a_journal_that_is_whole_is_not_written_to_when_it_is_opened(tmp_path):
    """Another run may have added a round since it was read, which cutting the file would take away."""
    run(study_in(tmp_path), 3)
    file = tmp_path / "tpe.jsonl"
    os.utime(file, ns=(0, 0))
    assert len(study_in(tmp_path).trials) == 3
    assert file.stat().st_mtime_ns == 0


KNOWN = MemoryConfig(
    ranks=(0, 8, 8), targets=("up", "down"), alpha_ratio=2.0, n_memories=2, learning_rate=3e-3, epochs=4
)


def test_random_search_draws_each_value_of_a_dimension_as_often_as_another(tmp_path):
    """Rounding between the first place and the last would draw these two half as often."""
    study = study_in(tmp_path, sampler="random")
    drawn = run(study, 210, lambda config: 0.0)
    for label, among in {"n_memories": 4, "epochs": 3, "rank_0": 7, "targets": 3}.items():
        counts = Counter(int(point.values[label][0]) for point in drawn)
        assert sorted(counts) == list(range(among))
        assert not any(str(point.values[label][0]).startswith("-") for point in drawn)
        expected = len(drawn) / among
        statistic = sum((count - expected) ** 2 / expected for count in counts.values())
        assert statistic < chi2.ppf(0.999, among - 1)


def test_a_study_begins_at_the_config_it_is_given_and_can_only_improve_on_it(tmp_path):
    study = Study("tpe", "tpe", SPACE, 1, Journal(tmp_path / "j.jsonl"), startup_trials=4, first=[KNOWN])

    trials = run(study, 12)

    assert MemoryConfig(**trials[0].config) == KNOWN
    assert min(trial.objective_value for trial in trials) <= toy_objective(KNOWN)
    assert len({str(trial.values) for trial in trials}) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.5},
        {"epochs": 99},
        {"targets": ("gate",)},
        {"alpha_ratio": 3.0},
        {"ranks": (8,) * 8},
        {"ranks": (8, 4)},  # halves of the layers are no thirds of them
    ],
)
def test_a_config_outside_the_space_is_no_beginning(change):
    assert point_of(KNOWN.model_copy(update=change), SPACE) is None


def test_a_point_leads_back_to_its_config():
    assert memory_config(point_of(KNOWN, SPACE), SPACE) == KNOWN
    one_group = KNOWN.model_copy(update={"ranks": (8,)})
    point = point_of(one_group, SPACE)
    assert point["rank_0"] == point["rank_1"] == point["rank_2"]
    assert memory_config(point, SPACE) == one_group, "three groups alike are one"
