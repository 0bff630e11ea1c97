"""Methods are measured shard by shard, and what is said of all users does not depend on how many shards there are."""

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from partitioned import record
from toys import invented_rows

from imprint.base.load import load_base, prepare_base
from imprint.base.settings import BaseSettings, EmbeddedSettings, FitSettings
from imprint.data.partition import part_name
from imprint.data.tables import new_table, open_table
from imprint.evaluate import wins
from imprint.evaluate.by_shard import measure_shards, measured_methods
from imprint.evaluate.choices import choosing_of, decided_rows
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.measure import answer_rows
from imprint.evaluate.settings import EvaluateSettings
from imprint.evaluate.summary import summarise_run
from imprint.evaluate.tables import responses_table, scores_table
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History, StoreRecord, train_memories
from imprint.memory.settings import FleetSettings, MemorySettings
from imprint.personalizers import methods
from imprint.schema import partitioned_schema

FIT = FitSettings(learning_rate=1e-3, epochs=1)
CONFIG = MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=1e-2, epochs=1)
FLEET = FleetSettings(slots=2)
EVALUATE = EvaluateSettings(max_test_rows=3, responses_per_user=2, max_new_tokens=3, resamples=100)
USERS = ("u1", "u2", "u3", "u4", "u5")
MADE_BY = (1, MemorySettings(fixed_config=CONFIG, trainer="one_user", fleet=FLEET))


class Run:
    """Everything before the evaluation, with users in so many shards; u1 is a pilot."""

    def __init__(self, folder, model, shards):
        self.base = BaseSettings(path=str(model), device="cpu", dtype="float32", embedded=EmbeddedSettings(fit=FIT))
        record = prepare_base([], self.base, 1, folder)
        self.plain, self.pooled = record.model_dump(), record.model_copy(update={"pooled": True}).model_dump()
        rows = [
            {"user_id": user, "shard": number % shards, "role": "reported" if number else "pilot", "fingerprint": user}
            for number, user in enumerate(USERS)
        ]
        self.index = pads.dataset(pa.Table.from_pylist(rows))
        self.names = [part_name(shard) for shard in range(shards)]
        self.table = self._histories(folder / "histories", rows)
        loaded = load_base(record, self.base)
        self.stores = {
            method: {name: self._trained(loaded, method, rows, shard, folder) for shard, name in enumerate(self.names)}
            for method in ("fixed_memory", "memory")
        }

    def _histories(self, path, index):
        schema = partitioned_schema()
        with new_table(path, schema, names=self.names) as table:
            for user in index:
                rows = [
                    record(one, "train" if one.order < 6 else "test", user["shard"])
                    for one in invented_rows(user["user_id"], 10)
                ]
                batch = pa.RecordBatch.from_pylist(rows, schema=schema)
                table.write(batch, part_name(user["shard"]))
        return open_table(path)

    def _trained(self, loaded, method, index, shard, folder):
        rows = {user["user_id"]: invented_rows(user["user_id"], 6) for user in index if user["shard"] == shard}
        config = CONFIG if method == "memory" else CONFIG.model_copy(update={"epochs": 2})
        given = [History(user, shard, user, loaded.encoder.examples(mine)) for user, mine in rows.items()]
        configs = dict.fromkeys(rows, config)
        return train_memories(loaded, given, configs, *MADE_BY, folder, {"by": method}).model_dump(mode="json")

    def measured(self, shards, rows_per_user, measure):
        records = self.plain, self.pooled, self.baselines, self.stores["memory"].__getitem__
        given = shards, self.table, self.index, rows_per_user, records, self.base, FLEET, measure
        return dict(measure_shards(*given))

    def baselines(self, name):
        return {"fixed_memory": self.stores["fixed_memory"][name]}

    def scores(self, shards):
        choosing = choosing_of(Everybody(self.table), self.index.to_table().to_pylist(), EVALUATE)
        return self.measured(shards, 3, partial(decided_rows, choosing=choosing))

    def metrics(self):
        answers = self.measured(self.names, 2, partial(answer_rows, max_new_tokens=3))
        scores, nobody = self.scores(self.names), {"users": [], "loss": [], "without": []}
        gathered = summarise_run(
            self.table,
            self.index,
            self.names,
            lambda name: pads.dataset(scores_table(scores[name])),
            lambda name: pads.dataset(responses_table(answers[name])),
            nobody,
            lambda name: {method: StoreRecord(**of[name]) for method, of in self.stores.items()},
            "search",
            EVALUATE,
            1,
        )
        for found in gathered["methods"].values():
            found.pop("seconds_per_user", None)
        return gathered


@pytest.fixture
def in_two(tmp_path, saved_llama):
    return Run(tmp_path, saved_llama, 2)


def test_every_shard_has_every_method_on_its_own_reported_users_test_rows(in_two):
    scores = in_two.scores(in_two.names)
    assert list(scores) == in_two.names
    for name, users in zip(in_two.names, (["u3", "u5"], ["u2", "u4"]), strict=True):
        rows = scores[name]
        assert list(dict.fromkeys(row["method"] for row in rows)) == ["base", "pooled", "fixed_memory", "memory"]
        for method in ("base", "memory"):
            assert [row["record_id"] for row in rows if row["method"] == method] == [
                f"{user}-{number}" for user in users for number in (6, 8, 9)
            ]
    assert measured_methods(in_two.pooled, in_two.baselines(in_two.names[0])) == 4
    assert measured_methods(in_two.plain, {}) == 2


def test_one_judge_is_loaded_for_all_shards_and_knows_each_user_s_past(in_two, monkeypatch):
    loaded = []
    load = wins.load_base
    monkeypatch.setattr(wins, "load_base", lambda record, settings: loaded.append(record) or load(record, settings))
    answers = in_two.measured(in_two.names, 2, partial(answer_rows, max_new_tokens=3))
    opposed = EVALUATE.judge.model_copy(update={"opponent": "base"})
    judge = wins.judging(in_two.table, in_two.index, in_two.pooled, in_two.base, FLEET, opposed)

    judged = {name: judge(answers[name]) for name in in_two.names}

    assert len(loaded) == 1
    assert all(row["won"] in (0, 0.5, 1) for rows in judged.values() for row in rows if row["method"] == "memory")
    assert judge([]) == []
    silent = wins.judging(in_two.table, in_two.index, in_two.pooled, in_two.base, FLEET, None)
    assert silent(answers[in_two.names[0]]) == answers[in_two.names[0]]


def test_one_shard_alone_has_what_it_has_among_others_and_each_model_is_loaded_once(in_two, monkeypatch):
    loaded = []
    load = methods.load_base
    monkeypatch.setattr(methods, "load_base", lambda record, settings: loaded.append(record) or load(record, settings))
    together = in_two.scores(in_two.names)
    assert [record.pooled for record in loaded] == [False, True]

    for name in in_two.names:
        assert in_two.scores([name])[name] == together[name]


def test_a_shards_methods_open_its_own_stores_and_no_others(in_two):
    (Path(in_two.stores["memory"][in_two.names[0]]["path"]) / "manifest.json").unlink()
    assert len(in_two.scores(in_two.names[1:])[in_two.names[1]]) == 4 * 2 * 3


def test_what_is_said_of_all_users_does_not_depend_on_the_number_of_shards(in_two, tmp_path, saved_llama):
    in_one = Run(tmp_path / "one", saved_llama, 1)
    ours, theirs = in_two.metrics(), in_one.metrics()
    assert ours["methods"] == theirs["methods"]
    assert ours["comparisons"] == theirs["comparisons"]
    assert ours["methods"]["memory"]["loss"]["n"] == 4


def test_what_was_measured_and_made_is_named_by_every_shards_part_in_it(in_two, tmp_path, saved_llama):
    before = in_two.metrics()["run"]["fingerprints"]
    assert in_two.metrics()["run"]["fingerprints"] == before
    second = in_two.names[1]
    in_two.stores["memory"][second]["fingerprint"] = "another"
    changed = in_two.metrics()["run"]["fingerprints"]
    assert {key for key in before if changed[key] != before[key]} == {"memory"}
