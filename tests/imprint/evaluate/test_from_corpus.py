"""Corpora whose questions come once and last, from their files through ingest and partition to a comparison."""

import json

import pytest
from corpus_rows import written
from methods import compare_settings
from toys import in_use, tiny_model

from imprint.base.histories import all_rows, read_histories, users_of
from imprint.corpora import CorpusSettings, open_corpus
from imprint.data.ingest import IngestSettings, ingest
from imprint.data.partition import PartitionSettings, partition
from imprint.data.tables import open_table
from imprint.evaluate.compared import measure_run
from imprint.evaluate.comparison import summarise_comparison
from imprint.evaluate.settings import EvaluateSettings
from imprint.personalizers.choosers import Latest
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.report.recommendation import answers
from imprint.schema import interactions_schema
from imprint.tasks import TASKS

COMPARE = compare_settings("base", "pooled", "recent_history")
SETTINGS = EvaluateSettings(
    max_test_rows=6, chosen_rows=4, responses_per_user=2, max_new_tokens=2, specificity_users=3, specificity_rows=2,
    judge=None, resamples=100,
)  # fmt: skip
PARTITION = PartitionSettings(shards=2, min_interactions=20, pilot_users=1, max_users=None)
DENSE, SPARSE = 5, 4


def partitioned(folder, corpus, **settings):
    """What ingest and partition make of files: the table of histories and the user index. No row has a problem."""
    opened = open_corpus(CorpusSettings(format=corpus, path=str(folder), **settings))
    (folder / "spill").mkdir()
    batches, report, _ = ingest(opened, IngestSettings(), bytes(32), folder / "spill")
    rows = [batch.select(interactions_schema().names) for batch in batches]
    assert report["unreadable"] == 0
    partition(rows, PARTITION, interactions=folder / "histories", users=folder / "users")
    return open_table(folder / "histories"), open_table(folder / "users").to_table().to_pylist()


def compared(table, index, tokenizer):
    """metrics.json of three methods on reported users."""
    base = in_use(tiny_model("llama", tokenizer), tokenizer)
    plain = [Unpersonalised(name, base, 2) for name in ("base", "pooled")]
    methods = [*plain, Prompted("recent_history", plain[1], Latest(), 20)]
    scores, responses, costs = measure_run(methods, table, index, SETTINGS)
    given = table, index, scores.to_pylist(), responses.to_pylist(), costs, {}, COMPARE, SETTINGS, {"base": "b1"}, 1
    return summarise_comparison(*given)


def movies(folder):
    """Users of 30 and of 8 ratings; all sparse ones and two of the dense ones choose drama most often."""
    genres = ["Drama" if number % 2 else "Comedy" for number in range(40)]
    table = "".join(f'{number},"Film {number} (1990)",{genre}\n' for number, genre in enumerate(genres))
    written(folder / "movies.csv", "movieId,title,genres\n" + table)
    lines = []
    for user in range(DENSE + SPARSE):
        drama = user >= DENSE or user < 2
        for turn in range(30 if user < DENSE else 8):
            movie = 2 * turn % 40 + drama if turn % 3 else 2 * turn % 40 + (not drama)
            lines.append(f"{user},{movie},4.0,{1_000_000_000 + 60 * turn}\n")
    written(folder / "ratings.csv", "userId,movieId,rating,timestamp\n" + "".join(lines))


def test_a_favourite_is_taught_by_background_users_and_measured_for_every_reported_one(tokenizer, tmp_path):
    movies(tmp_path)
    table, index = partitioned(tmp_path, "movielens", task="favourite")
    reported = users_of(index, "reported")

    taught = [row for row in all_rows(read_histories(table, index, "train")) if row.task == "favourite"]
    assert sorted(row.user_id for row in taught) == sorted(one["user_id"] for one in users_of(index, "background"))
    found = compared(table, index, tokenizer)

    tasks = {one["task"]: one for one in found["by_task"]}
    assert (tasks["favourite"]["rows"], tasks["favourite"]["users"]) == (len(reported), len(reported))
    asked = all_rows(read_histories(table, reported, "test"))
    drama = [row.response == "Drama" for row in asked if row.task == "favourite"]
    assert 0 < sum(drama) < len(drama)
    assert tasks["favourite"]["methods"]["majority"]["accuracy"]["mean"] == sum(drama) / len(drama)
    assert tasks["favourite"]["methods"]["recent_history"]["accuracy"]["n"] == len(reported)
    assert tasks["next_item"]["users"] == len(reported)
    assert found["deciding"] == "loss"
    assert {"own_best_share", "specificity_gap", "drift"} <= found["methods"]["recent_history"].keys()
    pairs = {(row["a"], row["b"]) for row in found["comparisons"] if row["metric"] == "loss"}
    assert {frozenset(pair) for pair in pairs} == {
        frozenset(pair) for pair in [("base", "pooled"), ("base", "recent_history"), ("pooled", "recent_history")]
    }


def lamp(folder, number, task, item, gold):
    """Questions of people with long and with short profiles; `gold` is by whose question it is."""
    people = [(user, 24 if user < DENSE else 5) for user in range(DENSE + SPARSE)]
    fields = {"text": "kites fly", "title": "On kites", "first": "Strings", "second": "Stones"}
    questions = [
        {
            "id": f"{user}",
            "input": TASKS[task].query(**fields),
            "profile": [{"id": f"{user}-{place}", **item(place)} for place in range(items)],
        }
        for user, items in people
    ]
    golds = [{"id": f"{user}", "output": gold(user)} for user, _ in people]
    written(folder / f"LaMP_{number}/train_questions.json", json.dumps(questions))
    written(folder / f"LaMP_{number}/train_outputs.json", json.dumps({"task": f"LaMP_{number}", "golds": golds}))


def test_a_citation_is_taught_by_published_questions_of_background_users(tokenizer, tmp_path):
    """Nobody's history holds one: items are papers. The first label is not the majority's by default."""
    lamp(
        tmp_path, 1, "citation", lambda place: {"title": f"Kite {place}", "abstract": f"We fly {place}."},
        lambda user: "[2]" if user >= DENSE or user % 2 else "[1]",
    )  # fmt: skip
    table, index = partitioned(tmp_path, "lamp")

    taught = all_rows(read_histories(table, users_of(index, "background"), "train"))
    assert [row.response for row in taught if row.task == "citation"] == ["[2]"] * SPARSE
    (task,) = (one for one in compared(table, index, tokenizer)["by_task"] if one["task"] == "citation")

    reported = users_of(index, "reported")
    asked = all_rows(read_histories(table, reported, "test"))
    second = [row.response == "[2]" for row in asked if row.task == "citation"]
    assert (task["rows"], len(second)) == (len(reported), DENSE - 1)
    assert task["methods"]["majority"]["accuracy"]["mean"] == sum(second) / len(second)
    assert task["methods"]["base"]["accuracy"]["n"] == len(reported)


def test_a_paraphrase_is_measured_beside_the_tweets_and_ratings_decide_by_their_error(tokenizer, tmp_path):
    lamp(tmp_path / "tweets", 7, "paraphrase", lambda place: {"text": f"kites {place}"}, lambda user: f"up {user}")
    lamp(
        tmp_path / "stars", 3, "rating", lambda place: {"text": f"flies {place}", "score": str(1 + place % 5)},
        lambda user: str(1 + user % 5),
    )  # fmt: skip

    table, index = partitioned(tmp_path / "tweets", "lamp")
    tasks = {one["task"]: one for one in compared(table, index, tokenizer)["by_task"]}
    assert (tasks["paraphrase"]["rows"], tasks["text"]["users"]) == (DENSE - 1, DENSE - 1)

    found = compared(*partitioned(tmp_path / "stars", "lamp"), tokenizer)
    assert found["deciding"] == "mae"
    best = min(("base", "pooled", "recent_history"), key=lambda name: found["methods"][name]["mae"]["mean"])
    assert any(said.startswith(f"{best} costs") for said in answers(found))
    groups = found["by_history"][0]["methods"]
    assert groups["base"]["mean"] == pytest.approx(found["methods"]["base"]["mae"]["mean"])
