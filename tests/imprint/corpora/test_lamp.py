"""LaMP on invented people: every task's history and question, and pairs that do not fit together."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from imprint.corpora import CorpusSettings, open_corpus
from imprint.corpora.lamp import HISTORY, marker
from imprint.corpora.lamp_pairs import NUMBERS
from imprint.corpora.reading import READ
from imprint.errors import CorpusError
from imprint.tasks import TASKS

ITEMS = {
    "citation": {"title": "Kites", "abstract": "We fly."},
    "tag": {"description": "A kite flies.", "tag": "fantasy"},
    "news_category": {"text": "Kites sell.", "category": "business"},
    "rating": {"text": "Flies well.", "score": "4"},
    "headline": {"text": "Kites sell.", "title": "Up"},
    "title": {"abstract": "We fly.", "title": "Kites"},
    "subject": {"text": "See you.", "title": "Kites"},
    "paraphrase": {"text": "kites are up"},
}
EARLIER = {
    "citation": ("abstract", "Write an abstract for this title: Kites", "We fly."),
    "tag": ("tag", TASKS["tag"].query(text="A kite flies."), "fantasy"),
    "news_category": ("news_category", TASKS["news_category"].query(text="Kites sell."), "business"),
    "rating": ("rating", TASKS["rating"].query(text="Flies well."), "4"),
    "headline": ("headline", "Generate a headline for the following article: Kites sell.", "Up"),
    "title": ("title", "Generate a title for the following abstract of a paper: We fly.", "Kites"),
    "subject": ("subject", "Generate a subject for the following email: See you.", "Kites"),
    "paraphrase": ("text", "", "kites are up"),
}


def question(number="11", task="rating", profile=1, **changes):
    fields = {"text": "Torn.", "title": "Kites", "first": "Strings", "second": "Stones"}
    items = [{"id": f"{number}{place}"} | ITEMS[task] for place in range(profile)]
    return {"id": number, "input": TASKS[task].query(**fields), "profile": items} | changes


def write(folder, questions, golds, name="LaMP_3", split="train", labelled=None):
    """One pair of files; `golds` is a list of (id, output), None for no file."""
    place = folder / name / split
    place.mkdir(parents=True, exist_ok=True)
    text = questions if isinstance(questions, str) else json.dumps(questions)
    (place / f"{split}_questions.json").write_text(text)
    if golds is not None:
        outputs = {"task": labelled or name, "golds": [{"id": one, "output": output} for one, output in golds]}
        (place / f"{split}_outputs.json").write_text(json.dumps(outputs))
    return folder


def rows_of(folder, **settings):
    corpus = open_corpus(CorpusSettings(format="lamp", path=str(folder), **settings))
    rows = [row | {"attributes": dict(row["attributes"])} for batch in corpus.batches() for row in batch.to_pylist()]
    assert sum(number for kind, number in corpus.counts.items() if kind != READ) == corpus.counts[READ]
    return rows, corpus.counts


@pytest.mark.parametrize(("number", "task"), sorted(NUMBERS.items()))
def test_every_task_gives_its_history_and_then_its_question(tmp_path, number, task):
    """The items in the task's own words, the question as published, the user known by the question."""
    gold = TASKS[task].labels[0] if TASKS[task].labels else "a right answer"
    write(tmp_path, [question(task=task)], [("11", gold)], f"LaMP_{number}")
    rows, counts = rows_of(tmp_path)
    assert [(row["task"], row["query"], row["response"]) for row in rows] == [
        EARLIER[task],
        (task, question(task=task)["input"], gold),
    ]
    assert {row["user"] for row in rows} == {f"LaMP_{number[0]}/11"}
    assert [row["attributes"] for row in rows] == [{"kind": kind, "file": "train"} for kind in ("history", "question")]
    assert counts == {READ: 2, "history items": 1, "questions": 1}


@pytest.mark.parametrize("task", sorted(HISTORY))
def test_a_question_that_lost_its_words_is_quarantined_and_its_history_stays(tmp_path, task):
    """As happened to one question of the movie task."""
    assert marker(task) in TASKS[task].wording
    write(tmp_path, [question(task=task, input="and in Rome")], [("11", "[1]")], "x", labelled=f"LaMP_{_number(task)}")
    rows, counts = rows_of(tmp_path)
    assert [row["problem"] is None for row in rows] == [True, False]
    assert "not worded as one of task" in rows[1]["problem"]
    assert counts["unreadable"] == 1


def _number(task):
    return next(number for number, name in NUMBERS.items() if name == task)


@pytest.mark.parametrize(("task", "name"), [("tag", "LaMP-2"), ("news_category", "lamp2")])
def test_plain_two_is_the_movie_task_or_the_news_task_by_its_words(tmp_path, task, name):
    """Old and new releases share the name."""
    write(tmp_path, [question(task=task)], [("11", TASKS[task].labels[1])], name)
    assert rows_of(tmp_path)[0][1]["task"] == task


def test_history_has_its_dates_and_the_question_none_so_that_it_comes_last(tmp_path):
    """Days, and milliseconds, which derived files have."""
    items = [{"id": "1", "text": "a", "score": 3, "date": day} for day in ("2014-05-01", 1398902400000)]
    write(tmp_path, [question(profile=0) | {"profile": items}], [("11", "5")])
    rows, _ = rows_of(tmp_path)
    assert [row["time"] for row in rows] == [
        datetime(2014, 5, 1, tzinfo=UTC),
        datetime(2014, 5, 1, tzinfo=UTC),
        None,
    ]
    assert rows[0]["response"] == "3"


def test_an_empty_history_leaves_the_question(tmp_path):
    """Such a user has one row; the counts say how many they are."""
    for empty in ([], None):
        write(tmp_path, [question(profile=0) | {"profile": empty}], [("11", "5")])
        rows, counts = rows_of(tmp_path)
        assert len(rows) == counts["questions without history"] == 1


def test_users_of_the_time_based_split_have_each_item_once(tmp_path):
    """Every question brings the whole profile again; without this, a test question's items would be counted twice."""
    one, two = (question(number, user_id="7", profile=0) for number in ("1", "2"))
    kept = {"id": "a", "text": "old", "score": "1", "date": "2010-01-01"}
    new = {"id": "b", "text": "new", "score": "2", "date": "2011-01-01"}
    stranger = question("3", user_id="8", profile=0) | {"profile": [kept]}
    write(tmp_path, [one | {"profile": [kept]}, two | {"profile": [kept, new]}, stranger], [(n, "5") for n in "123"])
    rows, counts = rows_of(tmp_path)
    assert [(row["user"], row["query"][-3:]) for row in rows if row["attributes"]["kind"] == "history"] == [
        ("LaMP_3/7", "old"),
        ("LaMP_3/7", "new"),
        ("LaMP_3/8", "old"),
    ]
    assert counts["repeated history items"] == 1
    assert len({(row["user"], row["source_id"]) for row in rows}) == len(rows)


def test_splits_are_read_in_their_order_and_tasks_can_be_chosen(tmp_path):
    """A user of the time-based split has questions in several; equal ids of two tasks are two people."""
    for split in ("test", "train", "dev"):
        write(tmp_path, [question("1", user_id="7", profile=0)], [("1", "5")], split=split)
    write(tmp_path, [question("1", "headline")], [("1", "Up")], "LaMP_4")
    rows, _ = rows_of(tmp_path, task="rating")
    assert [row["attributes"]["file"] for row in rows] == ["train", "dev", "test"]
    assert {row["user"] for row in rows_of(tmp_path)[0]} == {"LaMP_3/7", "LaMP_4/1"}
    with pytest.raises(CorpusError, match=r"the questions below corpus\.path are of headline, rating"):
        rows_of(tmp_path, task="title")


def asked_and_told(task="rating", golds="45"):
    """A user's question of an earlier split, and a later one whose profile holds an item of the same words."""
    item = {"date": "2012-01-01"} | ITEMS[task]
    asked = TASKS[task].query(text=item.get("text") or item.get("description"))
    earlier = {"id": "1", "user_id": "7", "input": asked, "profile": []}
    later = question("2", task, user_id="7", profile=0) | {"profile": [item]}
    return (earlier, [("1", golds[0])]), (later, [("2", golds[1])])


def kinds_of(folder):
    rows, counts = rows_of(folder)
    good = [row["attributes"] for row in rows if not row["problem"]]
    return [(one["file"], one["kind"]) for one in good], [row["problem"] for row in rows if row["problem"]], counts


GOLDS = {"rating": "45", "headline": ("Up", "No"), "tag": ("fantasy", "classic"), "paraphrase": ("kites are up", "no")}


@pytest.mark.parametrize(("task", "golds"), GOLDS.items(), ids=GOLDS)
def test_a_question_that_a_later_profile_answers_is_quarantined_and_the_item_stays(tmp_path, task, golds):
    """The time-based files ask a user again; what was asked before is a dated item by then, before all questions."""
    (earlier, first), (later, second) = asked_and_told(task, golds)
    name = f"LaMP_{_number(task)}"
    write(tmp_path, [earlier], first, name)
    write(tmp_path, [later], second, name, split="dev")

    kept, problems, counts = kinds_of(tmp_path)

    assert kept == [("dev", "history"), ("dev", "question")]
    assert ["the history would tell the answer" in problem for problem in problems] == [True]
    assert (counts["questions that a profile answers"], counts["unreadable"]) == (1, 0)


@pytest.mark.parametrize(
    "changes",
    [{"text": "Flies badly."}, {"score": "2"}, {"user_id": "8"}],
    ids=["another text", "another gold", "another user"],
)
def test_a_question_that_nothing_answers_is_asked(tmp_path, changes):
    (earlier, first), (later, second) = asked_and_told()
    later |= {"user_id": changes.get("user_id", "7"), "profile": [later["profile"][0] | changes]}
    write(tmp_path, [earlier], first)
    write(tmp_path, [later], second, split="dev")
    assert kinds_of(tmp_path)[0] == [("train", "question"), ("dev", "history"), ("dev", "question")]


def test_a_question_in_its_own_profile_is_quarantined_however_it_is_spaced(tmp_path):
    """As in some user-based files; a citation is no item, though the paper is."""
    told = question() | {"profile": [{"text": " Torn. ", "score": 5}]}
    cited = question("12", "citation")
    write(tmp_path, [told], [("11", "5")])
    write(tmp_path, [cited], [("12", "[1]")], "LaMP_1")
    kept, problems, _ = kinds_of(tmp_path)
    assert (kept, len(problems)) == ([("train", "history"), ("train", "question"), ("train", "history")], 1)


class TestMalformedPairs:
    """Questions and golds that do not fit together."""

    def test_a_question_without_gold_and_a_gold_without_question_are_quarantined(self, tmp_path):
        """And counted; the other pairs are read."""
        write(tmp_path, [question("1"), question("2"), question("3")], [("1", "5"), ("9", "4"), ("3", None)])
        rows, counts = rows_of(tmp_path)
        problems = [row["problem"] for row in rows if row["problem"]]
        assert [problem.partition(",")[0] for problem in problems] == [
            "the outputs have no gold of the question's id",
            "the outputs have no gold of the question's id",
            "no question has the id of this gold",
        ]
        assert (counts["unreadable"], counts["golds that answer nothing"], counts["questions"]) == (2, 1, 1)
        assert rows[-1]["user"] is None

    def test_files_that_share_no_id_stop_the_reading(self, tmp_path):
        """They are of two splits: every question would end in quarantine."""
        write(tmp_path, [question("1")], [("21", "5"), ("22", "5")])
        with pytest.raises(CorpusError, match=r"share no id: 1 questions, 2 golds.*same split"):
            rows_of(tmp_path)

    def test_ids_that_come_twice_are_quarantined(self, tmp_path):
        """Nothing says which gold is right; the first question keeps its gold."""
        write(tmp_path, [question("1", profile=0), question("1", profile=0)], [("1", "5"), ("1", "2")])
        rows, _ = rows_of(tmp_path)
        assert [row["response"] for row in rows] == ["5", None, None]
        assert "same id" in rows[1]["problem"]
        assert "same id" in rows[2]["problem"]

    def test_a_gold_outside_the_labels_is_quarantined(self, tmp_path):
        """Six stars of five."""
        write(tmp_path, [question("1", profile=0)], [("1", "6")])
        assert "none of the labels" in rows_of(tmp_path)[0][0]["problem"]

    def test_a_split_without_outputs_keeps_its_histories(self, tmp_path):
        """Golds of test splits are not always published."""
        write(tmp_path, [question("1")], [("1", "5")])
        write(tmp_path, [question("2")], None, split="test")
        rows, _ = rows_of(tmp_path)
        assert [row["problem"] is None for row in rows] == [True, True, True, False]

    def test_questions_without_any_outputs_are_refused(self, tmp_path):
        """A renamed file of outputs must not look like a corpus without questions."""
        write(tmp_path, [question("1")], None)
        with pytest.raises(CorpusError, match=r"no \*_outputs\.json beside them"):
            rows_of(tmp_path)

    @pytest.mark.parametrize("outputs", ["[]", "{", '{"golds": [1]}', '{"golds": [{"output": "5"}]}', '{"task": "x"}'])
    def test_outputs_of_another_form_are_refused(self, tmp_path, outputs):
        """The message shows the form."""
        write(tmp_path, [question("1")], [("1", "5")])
        (tmp_path / "LaMP_3/train/train_outputs.json").write_text(outputs)
        with pytest.raises(CorpusError, match="is not an outputs file of LaMP"):
            rows_of(tmp_path)

    @pytest.mark.parametrize("item", [7, {"id": "1", "text": "a"}, {"text": "a", "score": ["5"]}])
    def test_a_profile_item_without_its_fields_is_quarantined(self, tmp_path, item):
        """The question and the other items are read."""
        write(tmp_path, [question("1") | {"profile": [item, ITEMS["rating"]]}], [("1", "5")])
        rows, _ = rows_of(tmp_path)
        assert [row["problem"] is None for row in rows] == [False, True, True]
        assert "no 'score'" in rows[0]["problem"] or "no 'text'" in rows[0]["problem"]

    def test_a_date_that_is_none_is_quarantined(self, tmp_path):
        """A wrong time would put the item into a wrong split."""
        write(tmp_path, [question("1") | {"profile": [ITEMS["rating"] | {"date": "soon"}]}], [("1", "5")])
        assert "the time is neither" in rows_of(tmp_path)[0][0]["problem"]

    @pytest.mark.parametrize("record", [7, {"input": "x"}])
    def test_a_record_that_is_no_question_is_quarantined(self, tmp_path, record):
        """One bad record of many."""
        write(tmp_path, [question("1"), record], [("1", "5")])
        assert "not a question with an id" in rows_of(tmp_path)[0][-1]["problem"]

    def test_a_profile_that_is_no_list_is_quarantined(self, tmp_path):
        """It must not look like a user without history."""
        write(tmp_path, [question("1") | {"profile": "Flies well."}], [("1", "5")])
        assert [row["problem"] is None for row in rows_of(tmp_path)[0]] == [False, True]

    def test_a_folder_without_questions_or_without_the_tasks_name_is_refused(self, tmp_path):
        """The message says what to name it."""
        with pytest.raises(CorpusError, match=r"\*_questions\.json"):
            rows_of(tmp_path)
        write(tmp_path, [question("1")], [("1", "5")], "mine")
        with pytest.raises(CorpusError, match="name the folder LaMP_1 to LaMP_7"):
            rows_of(tmp_path)
