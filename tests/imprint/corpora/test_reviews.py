"""Reviews of Amazon (2018, 2023) and Google Local, invented: shapes, tasks, repeats, names, tables of items."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from corpus_rows import names_of, rows_of, written

from imprint.corpora.reviews import plain_text
from imprint.errors import CorpusError

OLD = {
    "reviewerID": "A1", "asin": "B1", "overall": 4.0, "reviewText": "Flies well.", "summary": "Good kite",
    "unixReviewTime": 1398902400, "reviewerName": "Wren Kitely", "vote": "3",
}  # fmt: skip
NEW = {
    "user_id": "A1", "parent_asin": "B1", "asin": "B1-red", "rating": 4.0, "text": "Flies well.", "title": "Good kite",
    "timestamp": 1398902400000,
}  # fmt: skip
GROUPED = {
    "user_id": "A1",
    "category": "Toys",
    "history": [
        {
            "parent_asin": "B1", "rating": 4.0, "timestamp_ms": 1398902400000, "review_full": "Flies well.",
            "review_excerpt": "Flies", "review_title": "Good kite",
            "product": {"title": "Red kite", "main_category": "Outdoor", "price": None},
        }
    ],
    "heldout": {
        "parent_asin": "B2", "rating": 2.0, "timestamp_ms": 1398902460000, "review_full": "Tore.",
        "review_title": "Bad", "product": {"title": "Grey kite", "main_category": None},
    },
}  # fmt: skip
OLD_META = {"asin": "B1", "title": "Red kite", "category": ["Toys", "Outdoor", "Lasts long.", "</span>"]}
NEW_META = {"parent_asin": "B1", "title": "Red kite", "main_category": "Toys", "categories": ["Toys", "Outdoor"]}
PLACE = {
    "user_id": "1234567", "name": "Wren Kitely", "time": 1398902400000, "rating": 4, "text": "Flies well.",
    "pics": None, "resp": None, "gmap_id": "0x1",
}  # fmt: skip
PLACE_META = {"gmap_id": "0x1", "name": "Kite shop", "category": ["Toy store", "Store"], "address": "Somewhere 1"}

SHAPES = {
    "2018": ("amazon", "Toys_5.json", [OLD], "meta_Toys.json", [OLD_META]),
    "2018 packed": ("amazon", "Toys_5.json.gz", [OLD], "meta_Toys.json.gz", [OLD_META]),
    "2023": ("amazon", "Toys.jsonl", [NEW], "meta_Toys.jsonl", [NEW_META]),
    "2023 by user": ("amazon", "train.jsonl", [GROUPED], None, None),
    "Google Local": ("google_local", "review-Nowhere.json.gz", [PLACE], "meta-Nowhere.json.gz", [PLACE_META]),
}


def folder_of(folder, shape, reviews=None, meta=True):
    kind, name, own, table, items = SHAPES[shape]
    if table and meta:
        written(folder / table, items)
    return kind, written(folder / name, own if reviews is None else reviews)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_shape_gives_the_same_first_row(tmp_path, shape):
    """Query from product, category and rating; the time in seconds or milliseconds."""
    kind, folder = folder_of(tmp_path, shape)
    row = rows_of(kind, folder)[0][0]
    what = 'the place "Kite shop" (Toy store, Store)' if kind == "google_local" else 'the product "Red kite" (Outdoor)'
    assert row["query"] == f"Write a review of {what}: 4 of 5 stars."
    assert (row["task"], row["response"]) == ("review", "Flies well.")
    assert row["time"] == datetime(2014, 5, 1, tzinfo=UTC)
    assert row["user"] == ("1234567" if kind == "google_local" else "A1")
    assert {"item", "title", "rating", "categories"} == set(row["attributes"])


@pytest.mark.parametrize(
    ("task", "query", "response"),
    [
        ("rating", "review: Flies well.", "4"),
        ("review_title", "Write a title for the following review: Flies well.", "Good kite"),
        ("next_item", "Which product do you choose next?", "Red kite"),
    ],
)
@pytest.mark.parametrize("shape", ["2018", "2023", "2023 by user"])
def test_every_task_asks_for_its_part(tmp_path, shape, task, query, response):
    """And never shows the answer in the query."""
    kind, folder = folder_of(tmp_path, shape)
    row = rows_of(kind, folder, task=task)[0][0]
    assert row["query"].endswith(query)
    assert row["response"] == response
    assert (row["problem"], row["task"]) == (None, task)


def test_the_csv_of_2023_has_items_without_words(tmp_path):
    """Good for the next item; its column `history` is text and no list of reviews."""
    written(tmp_path / "meta_Toys.jsonl", [NEW_META])
    written(tmp_path / "Toys.csv", "user_id,parent_asin,rating,timestamp,history\nA1,B1,4.0,1398902400000,B7 B8\n")
    (row,) = rows_of("amazon", tmp_path, task="next_item")[0]
    assert (row["user"], row["response"]) == ("A1", "Red kite")


def test_a_history_by_user_ends_with_the_review_held_out(tmp_path):
    """Source ids tell the reviews of one line apart, and the line's category stands in for a missing one."""
    kind, folder = folder_of(tmp_path, "2023 by user")
    rows, counts = rows_of(kind, folder)
    assert [row["source_id"] for row in rows] == ["train.jsonl:1", "train.jsonl:1.1"]
    assert [row["attributes"]["categories"] for row in rows] == ["Outdoor", "Toys"]
    assert counts["reviews"] == counts["read"] == 2


def test_a_users_equal_texts_are_one_review(tmp_path):
    """Shops repeat a review over the variants of a product; somebody else's equal words are another review."""
    reviews = [OLD, OLD | {"asin": "B2"}, OLD | {"reviewerID": "A2"}, OLD | {"asin": "B3", "reviewText": ""}]
    kind, folder = folder_of(tmp_path, "2018", [*reviews, reviews[3] | {"asin": "B4"}])
    rows, counts = rows_of(kind, folder)
    assert [(row["user"], row["attributes"]["item"]) for row in rows] == [
        ("A1", "B1"), ("A2", "B1"), ("A1", "B3"), ("A1", "B4"),
    ]  # fmt: skip
    assert (counts["repeated reviews"], counts["reviews"]) == (1, 4)


def test_a_packed_file_beside_its_twin_is_read_once(tmp_path):
    """Archives ship both."""
    folder_of(tmp_path, "2018")
    kind, folder = folder_of(tmp_path, "2018 packed")
    assert rows_of(kind, folder)[1] == {"read": 1, "reviews": 1}


def test_one_file_can_be_named_and_the_table_beside_it_is_found(tmp_path):
    """A folder may hold other categories."""
    kind, folder = folder_of(tmp_path, "2018")
    written(tmp_path / "Books_5.json", [OLD | {"reviewerID": "A9"}])
    rows, _ = rows_of(kind, folder / "Toys_5.json")
    assert [row["user"] for row in rows] == ["A1"]
    assert rows[0]["attributes"]["title"] == "Red kite"


def test_an_item_outside_the_table_can_be_reviewed_and_not_be_next(tmp_path):
    """Its title is not known, so nothing could name it; the review is still the user's."""
    kind, folder = folder_of(tmp_path, "2018", [OLD | {"asin": "B9"}])
    (row,) = rows_of(kind, folder)[0]
    assert (row["query"], row["response"]) == ("Write a review of a product: 4 of 5 stars.", "Flies well.")
    (row,) = rows_of(kind, folder, task="next_item")[0]
    assert row["problem"] == "the product has no title in the corpus's table of products"


@pytest.mark.parametrize("shape", ["2018", "2023", "Google Local"])
def test_a_corpus_without_categories_has_no_favourites(tmp_path, shape):
    """The table of items is missing; the message says to put it there."""
    kind, folder = folder_of(tmp_path, shape, meta=False)
    with pytest.raises(CorpusError, match=r"has a category\. Next: put the corpus's table"):
        rows_of(kind, folder, task="favourite")


def test_a_category_that_holds_the_separator_stays_one_category(tmp_path):
    """The attribute joins categories, and whoever splits it again must find as many."""
    kind, folder = folder_of(tmp_path, "2023", meta=False)
    written(folder / "meta_Toys.jsonl", [NEW_META | {"categories": ["Toys", "Kites|Strings", "Red"]}])
    assert rows_of(kind, folder)[0][0]["attributes"]["categories"] == "Kites/Strings|Red"


def test_favourites_of_users_without_time_come_last_all_the_same(tmp_path):
    """Rows without time end a history, so the question has none either."""
    untimed = {key: value for key, value in NEW.items() if key != "timestamp"} | {"text": "Again."}
    kind, folder = folder_of(tmp_path, "2023", [NEW, untimed, NEW | {"text": "Once more."}])
    rows, _ = rows_of(kind, folder, task="favourite")
    assert (rows[-1]["response"], rows[-1]["time"]) == ("Outdoor", None)


@pytest.mark.parametrize(
    ("review", "problem"),
    [
        ({"asin": "B1", "overall": 4.0}, "the review has no 'user_id'"),
        (OLD | {"asin": None}, "the review has no 'parent_asin'"),
        (OLD | {"overall": "good"}, "the rating is not a number"),
        (OLD | {"unixReviewTime": "soon"}, "the time is neither"),
        ({**GROUPED, "history": [7]}, "the review is not an object"),
        ({}, "the review has no"),
        ([1], "not a JSON object"),
    ],
)
def test_a_review_that_is_none_is_quarantined(tmp_path, review, problem):
    """And repeats nothing of what it holds."""
    kind, folder = folder_of(tmp_path, "2018", [OLD, review])
    rows, counts = rows_of(kind, folder, task="rating")
    assert rows[0]["problem"] is None
    assert problem in rows[1]["problem"]
    assert counts["unreadable"] == 1


def test_a_score_outside_the_scale_is_quarantined(tmp_path):
    """Nothing of it is kept but where it is."""
    kind, folder = folder_of(tmp_path, "2018", [OLD | {"overall": 0.0}])
    assert "none of the labels of task 'rating'" in rows_of(kind, folder, task="rating")[0][0]["problem"]


def test_files_without_a_review_are_refused(tmp_path):
    """A folder with nothing but tables, and one with broken lines."""
    written(tmp_path / "meta_Toys.json", [OLD_META])
    with pytest.raises(CorpusError, match="no file of reviews with a readable record"):
        rows_of("amazon", tmp_path)
    written(tmp_path / "Toys.json", "{broken\n\n")
    with pytest.raises(CorpusError, match="no file of reviews with a readable record"):
        rows_of("amazon", tmp_path)
    with pytest.raises(CorpusError, match="offers review, rating, next_item, favourite"):
        rows_of("google_local", tmp_path, task="review_title")


@pytest.mark.parametrize("shape", ["2018", "Google Local"])
def test_reviewers_are_known_by_name_to_the_masker_and_nowhere_else(tmp_path, shape):
    """Names of one word, and shared ones, would mask ordinary words."""
    own, key = (OLD, "reviewerName") if shape == "2018" else (PLACE, "name")
    kind, folder = folder_of(tmp_path, shape, [own, own | {key: "Robin"}, own | {key: None}])
    assert names_of(kind, folder) == ["Wren Kitely"]
    assert "Wren" not in str(rows_of(kind, folder)[0])
    kind, folder = folder_of(tmp_path, "2018", [OLD | {"reviewerName": "Amazon Customer"}])
    assert names_of(kind, folder / "Toys_5.json") == []


@pytest.mark.parametrize(
    ("text", "plain"),
    [("a<br /><br>b", "a\nb"), ("&#34;a&#34; &amp; b", '"a" & b'), (" a \n\n\n b ", "a\nb"), (None, None), (7, None)],
)
def test_texts_of_web_pages_become_plain(text, plain):
    """Mark-up is not what the user wrote."""
    assert plain_text(text) == plain
