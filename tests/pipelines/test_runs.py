"""Whole runs in processes of their own: repeated, killed and resumed, cut into steps, answering requests."""

import json
import re
import time
from pathlib import Path

import pytest
from whole_runs import kedro_run, metrics, records_of, start_run

pytestmark = pytest.mark.slow


def test_a_run_leaves_everything_the_readme_promises(finished):
    data_root, printed = finished
    reporting = data_root / "08_reporting"
    assert {"metrics.json", "report.html", "validation.html", "plots", "runs"} <= {
        file.name for file in reporting.iterdir()
    }
    expected = {"base", "pooled", "fixed_memory", "random_memory", "population_memory", "memory"}
    assert set(metrics(data_root)["methods"]) == expected
    assert all(method in printed for method in ("base", "pooled", "fixed_memory", "memory"))
    assert "95 % bootstrap interval" in printed
    record = json.loads(next((reporting / "runs").iterdir()).read_text())
    assert (record["outcome"], record["env"]) == ("completed", "test")
    assert record["versions"]["torch"]
    conditions = metrics(data_root)["run"]
    assert [record[key] for key in ("seed", "device")] == [conditions[key] for key in ("seed", "device")]
    assert record["data"]["user_histories"] == conditions["fingerprints"]["data"]
    assert record["shard"] is None
    assert [sorted(record["data"][name]) for name in ("own_choices", "scores")] == [["shard-00000", "shard-00001"]] * 2
    assert f"Made from data {record['data']['user_histories']}, with seed 7" in (reporting / "report.html").read_text()


def test_metrics_have_the_contracts_schema(finished):
    found = metrics(finished[0])
    assert {"methods", "comparisons", "run"} <= found.keys()
    expected = {
        "loss",
        "perplexity",
        "rouge1",
        "rougeL",
        "bleu",
        "persona_f1",
        "p_cover",
        "win_rate",
        "own_best_share",
        "specificity_gap",
        "drift",
        "bytes_per_user",
    }
    assert expected <= found["methods"]["memory"].keys()
    assert all(score.keys() == {"mean", "low", "high", "n"} for score in found["methods"]["memory"].values())
    pairs = {(one["a"], one["b"]) for one in found["comparisons"]}
    assert {("memory", "base"), ("memory", "pooled"), ("memory", "fixed_memory"), ("pooled", "base")} <= pairs
    assert all(one["p"] <= one["p_holm"] <= 1 for one in found["comparisons"])
    assert {"seed", "fingerprints", "code", "versions", "judge"} <= found["run"].keys()
    assert {"fact_presence", "fact_absence"} & found["methods"]["memory"].keys()


def test_rows_are_conserved_from_the_corpus_to_the_histories(finished):
    """Invariant 6 over a whole run."""
    data_root = finished[0]
    ingest = json.loads((data_root / "02_intermediate/ingest_report.json").read_text())
    validation = json.loads((data_root / "03_primary/validation_result.json").read_text())
    partition = json.loads((data_root / "04_feature/partition_summary.json").read_text())
    assert ingest["rows_read"] == ingest["rows_written"] == validation["rows_in"]
    assert validation["rows_in"] == validation["rows_out"] + validation["rows_quarantined"]
    assert validation["rows_out"] == sum(sum(splits.values()) for splits in partition["rows"].values())


def test_only_train_rows_made_a_model_and_only_reported_users_are_measured(finished):
    """Invariant 1 over a whole run: what was trained on, searched on and measured, held against the splits."""
    from imprint.data.tables import open_table

    data_root = finished[0]
    rows = open_table(data_root / "04_feature/user_histories").to_table().to_pylist()
    index = {row["user_id"]: row for row in open_table(data_root / "04_feature/user_index").to_table().to_pylist()}
    split = {row["record_id"]: (row["user_id"], row["split"]) for row in rows}
    shards = sorted((data_root / "07_model_output/scores").iterdir())
    scored = [row for shard in shards for row in open_table(shard).to_table().to_pylist()]
    assert {split[row["record_id"]] for row in scored} <= {
        (user_id, "test") for user_id, user in index.items() if user["role"] == "reported"
    }
    pilots = {user_id for user_id, user in index.items() if user["role"] == "pilot"}
    trials = [json.loads(line) for line in (data_root / "06_models/trials.jsonl").read_text().splitlines()]
    assert {user_id for trial in trials for user_id in trial["per_user"]} == pilots
    own = [trial for file in (data_root / "06_models/own_trials").iterdir() for trial in read_lines(file)]
    reported = {user_id for user_id, user in index.items() if user["role"] == "reported"}
    assert {user_id for trial in own for user_id in trial["per_user"]} == reported
    assert all(trial["study"] == f"user/{user_id}" for trial in own for user_id in trial["per_user"])
    base = json.loads((data_root / "05_model_input/base_model.json").read_text())
    background = sum(user["train"] for user in index.values() if user["role"] == "background")
    assert base["training"]["rows"] == background


def test_the_one_user_trainer_gives_the_same_metrics_within_tolerance(finished, tmp_path):
    """The oracle, reachable by a parameter: plain PEFT, one user after another."""
    kedro_run(tmp_path / "alone", **{"memory.trainer": "one_user"})

    fleet, alone = metrics(finished[0]), metrics(tmp_path / "alone")

    assert alone["methods"].keys() == fleet["methods"].keys()
    for method, found in alone["methods"].items():
        assert found["loss"]["mean"] == pytest.approx(fleet["methods"][method]["loss"]["mean"], rel=1e-4), method


def test_the_same_seed_gives_the_same_metrics_and_another_does_not(finished, tmp_path):
    kedro_run(tmp_path / "same")
    assert metrics(tmp_path / "same") == metrics(finished[0])

    kedro_run(tmp_path / "other", seed=8)
    assert metrics(tmp_path / "other")["methods"] != metrics(finished[0])["methods"]


def kill_when(data_root, pattern, count):
    """Start a run, and kill its process group without warning once `count` files match `pattern`."""
    process = start_run(data_root)
    deadline = time.monotonic() + 240
    while len(matching(data_root, pattern)) < count:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()


def matching(data_root, pattern):
    files = list(data_root.glob(pattern))
    if pattern.endswith(".jsonl"):
        return [line for file in files for line in file.read_bytes().splitlines()]
    return files


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("06_models/search/*/population.jsonl", 1),
        ("06_models/search/*/user.jsonl", 1),
        ("06_models/memories-*.parts/*.safetensors", 3),
    ],
    ids=["in search", "in users' search", "in inject"],
)
def test_a_killed_run_started_again_ends_with_the_same_metrics(finished, tmp_path, pattern, count):
    """Invariant 7: SIGKILL in the middle of a stage, then the same command again."""
    data_root = tmp_path / "data"
    kill_when(data_root, pattern, count)
    assert not (data_root / "08_reporting/metrics.json").exists()
    kept = {file: file.read_bytes() for file in data_root.glob(pattern)}
    (killed,) = (json.loads(file.read_text()) for file in data_root.glob("08_reporting/runs/*.json"))
    assert killed["outcome"] == "running"
    assert "user_histories" in killed["data"]

    kedro_run(data_root)

    assert metrics(data_root) == metrics(finished[0])
    for file, content in kept.items():
        if file.suffix == ".jsonl":  # the trials that were done were not done again
            assert file.read_bytes().startswith(content.rpartition(b"\n")[0])


def test_stage_by_stage_is_the_same_as_all_at_once(finished, tmp_path):
    """Invariant 8, as far as it applies: each stage in a process of its own, through the catalog alone."""
    for stage in ("ingest", "validate", "partition", "base", "search", "inject", "evaluate", "report"):
        kedro_run(tmp_path / "data", "--pipelines", stage)

    assert metrics(tmp_path / "data") == metrics(finished[0])
    ours, theirs = (records_of(root, "06_models/memories") for root in (tmp_path / "data", finished[0]))
    assert list(ours) == list(theirs) == ["shard-00000", "shard-00001"]
    for shard, mine in ours.items():
        pack = f"{shard}.safetensors"
        assert Path(mine["path"], pack).read_bytes() == Path(theirs[shard]["path"], pack).read_bytes()


def test_respond_answers_the_known_and_refuses_the_unknown_by_name(finished, tmp_path):
    from imprint.data.tables import open_table

    data_root = finished[0]
    index = open_table(data_root / "04_feature/user_index").to_table().to_pylist()
    known, other = (
        next(one["user_id"] for one in index if (one["role"], one["shard"]) == ("reported", n)) for n in (0, 1)
    )
    sparse = next(row["user_id"] for row in index if row["role"] == "background")
    requests = tmp_path / "requests.jsonl"
    lines = [
        json.dumps({"user_id": known, "query": "how are you?"}),
        json.dumps({"user": "fabricated-nobody", "query": "hello"}),
        json.dumps({"user_id": sparse, "query": "hello"}),
        "{broken",
        json.dumps({"user_id": known}),
        json.dumps({"user_id": known, "query": "what does fabricated-0002 say of your home town?"}),
        json.dumps({"user_id": other, "query": "how are you?"}),
    ]
    requests.write_text("\n".join(lines) + "\n")

    kedro_run(data_root, "--pipelines", "respond", **{"respond.requests": requests})

    answered = read_lines(data_root / "07_model_output/answered_requests.jsonl")
    refused = read_lines(data_root / "01_raw/refused_requests.jsonl")
    by = [(row["line"], row["user_id"], row["answered_by"]) for row in answered]
    assert by == [(1, known, "memory"), (3, sparse, "pooled"), (6, known, "memory"), (7, other, "memory")]
    assert answered[2]["query"] == "what does @user say of your home town?"
    assert [row["line"] for row in refused] == [2, 4, 5]
    assert "'fabricated-nobody' has no memory" in refused[0]["error"]


def read_table(directory):
    from imprint.data.tables import open_table

    return open_table(directory).to_table().to_pylist()


def read_lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_whoever_has_a_study_of_their_own_is_not_trained_again(finished):
    data_root, _ = finished
    reported = {row["user_id"] for row in read_table(data_root / "04_feature/user_index") if row["role"] == "reported"}
    memory = records_of(data_root, "06_models/memories")
    others = records_of(data_root, "06_models/baseline_memories")

    assert set().union(*(one["taken"] for one in memory.values())) == reported
    assert set().union(*(one["population_memory"]["taken"] for one in others.values())) == reported


def test_pilots_have_a_memory_and_nothing_that_it_is_held_against(finished):
    data_root, _ = finished
    roles = {row["user_id"]: row["role"] for row in read_table(data_root / "04_feature/user_index")}

    def served(records):
        return {roles[user_id] for record in records for user_id in record["seconds"]}

    assert served(records_of(data_root, "06_models/memories").values()) == {"pilot", "reported"}
    others = records_of(data_root, "06_models/baseline_memories").values()
    assert {method for one in others for method in one} >= {"fixed_memory", "random_memory", "population_memory"}
    assert served(record for one in others for record in one.values()) == {"reported"}


def test_compare_measures_every_method_and_teaches_on_nobody_who_is_measured(finished, tmp_path):
    """From nothing: the same stages, then each method of the settings within the budget."""
    data_root = tmp_path / "data"
    printed = kedro_run(data_root, "--pipelines", "compare").stdout

    found = json.loads((data_root / "08_reporting/metrics.json").read_text())
    expected = {"base", "pooled", "recent_history", "retrieval", "fixed_memory", "memory", "memory+retrieval"}
    assert set(found["methods"]) == set(found["costs"]) == expected | {"tuned_history", "persona_plug", "user_llm"}
    assert all({"loss", "seconds_per_user", "bytes_per_user"} <= scores.keys() for scores in found["methods"].values())
    assert {"persona_plug", "memory+retrieval"} < {word for word in printed.split() if word[0].isalpha()}
    assert {one["task"] for one in found["by_task"]} == {"dialogue", "answer"}
    budget = found["budget_tokens"]
    assert all(cost["training_tokens"] < 1.1 * budget for cost in found["costs"].values())
    metrics = json.loads((data_root / "08_reporting/metrics.json").read_text())
    models = {
        name: json.loads((data_root / f"05_model_input/{name}_model.json").read_text()) for name in ("base", "pooled")
    }
    stands_on = {name: model["fingerprint"] for name, model in models.items()}
    assert stands_on.items() <= metrics["run"]["fingerprints"].items()
    compared = json.loads((data_root / "06_models/compared_memories.json").read_text())
    made_by_inject = {name: one["fingerprint"] for name, one in records_of(finished[0], "06_models/memories").items()}
    assert {name: one["fingerprint"] for name, one in compared["memory"]["stores"].items()} == made_by_inject
    fixed = {name: one["fixed_memory"] for name, one in records_of(finished[0], "06_models/baseline_memories").items()}
    for name, one in compared["fixed_memory"]["stores"].items():
        assert one["fingerprint"] == fixed[name]["fingerprint"], "where the budget binds nobody"
    index = {row["user_id"]: row for row in read_table(data_root / "04_feature/user_index")}
    measured = read_table(data_root / "07_model_output/compared_scores")
    assert {index[row["user_id"]]["role"] for row in measured} == {"reported"}
    shared = json.loads((data_root / "06_models/shared_methods.json").read_text())
    for record in shared.values():
        taught_by = json.loads((Path(record["path"]) / "manifest.json").read_text())["taught_by"]
        assert {index[user_id]["role"] for user_id in taught_by} == {"background", "pilot"}
    knowing = [scores for name, scores in found["methods"].items() if name not in ("base", "pooled")]
    assert all({"own_best_share", "specificity_gap", "drift"} <= scores.keys() for scores in knowing)
    best = min(found["methods"], key=lambda name: found["methods"][name]["loss"]["mean"])
    (said,) = re.findall(r"<h1>(.*)\.</h1>", (data_root / "08_reporting/comparison.html").read_text())
    assert said.startswith((f"Use {best}: its loss of ", f"{best} has the lowest loss, "))
