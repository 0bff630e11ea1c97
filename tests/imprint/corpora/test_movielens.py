"""MovieLens in its three layouts, on invented ratings."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from corpus_rows import names_of, rows_of, written

from imprint.corpora.movielens import GENRES_100K
from imprint.errors import CorpusError

MOVIES = [("1", "Kites (1990)", ["Comedy", "Drama"]), ("2", "300, The", []), ("3", "Owls (1991)", ["Comedy"])]
RATINGS = [("7", "1", "4", "1000000000"), ("7", "3", "3", "1000000060"), ("8", "2", "5", "1000000000")]


def latest(folder, ratings=RATINGS, movies=MOVIES, score=lambda rating: f"{rating}.0"):
    quoted = "".join(f'{one},"{title}",{"|".join(genres) or "(no genres listed)"}\r\n' for one, title, genres in movies)
    written(folder / "ml" / "movies.csv", "movieId,title,genres\r\n" + quoted)
    lines = "".join(f"{user},{movie},{score(rating)},{time}\r\n" for user, movie, rating, time in ratings)
    return written(folder / "ml" / "ratings.csv", "userId,movieId,rating,timestamp\r\n" + lines)


def million(folder):
    movies = "".join(f"{one}::{title}::{'|'.join(genres)}\n" for one, title, genres in MOVIES)
    written(folder / "ml-1m" / "movies.dat", movies)
    return written(folder / "ml-1m" / "ratings.dat", "".join("::".join(rating) + "\n" for rating in RATINGS))


def hundred(folder):
    flags = [["1" if genre in genres else "0" for genre in GENRES_100K] for _, _, genres in MOVIES]
    flags[1][0] = "1"  # unknown
    lines = [
        [one, title, "01-Jan-1990", "", "link", *flag] for (one, title, _), flag in zip(MOVIES, flags, strict=True)
    ]
    written(folder / "ml-100k" / "u.item", "".join("|".join(line) + "\n" for line in lines))
    return written(folder / "ml-100k" / "u.data", "".join("\t".join(rating) + "\n" for rating in RATINGS))


@pytest.mark.parametrize("layout", [latest, million, hundred])
def test_every_layout_gives_the_same_rows(tmp_path, layout):
    """Users, items, titles, genres, times."""
    rows, counts = rows_of("movielens", layout(tmp_path))
    assert [(row["user"], row["task"], row["query"], row["response"]) for row in rows] == [
        ("7", "next_item", "Which movie do you choose next?", "Kites (1990)"),
        ("7", "next_item", "Which movie do you choose next?", "Owls (1991)"),
        ("8", "next_item", "Which movie do you choose next?", "300, The"),
    ]
    assert rows[0]["attributes"] == {
        "item": "1", "title": "Kites (1990)", "rating": "4", "categories": "Comedy|Drama",
    }  # fmt: skip
    assert "categories" not in rows[2]["attributes"]
    assert rows[0]["time"] == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert counts["ratings"] == 3


def test_latin_1_titles_are_read(tmp_path):
    """The older releases are not UTF-8."""
    folder = million(tmp_path)
    (folder / "movies.dat").write_bytes("1::Caf\xe9 (1990)::Drama\n".encode("latin-1"))
    assert rows_of("movielens", folder)[0][0]["response"] == "Caf\xe9 (1990)"


def test_stars_are_asked_about_title_and_genres(tmp_path):
    """Half stars are labels, and 4.0 is the label 4."""
    latest(tmp_path, score=lambda rating: "3.5" if rating == "3" else f"{rating}.0")
    rows, _ = rows_of("movielens", tmp_path, task="stars")
    assert rows[0]["query"] == 'How many stars, from 0.5 to 5, do you give to the movie "Kites (1990)" (Comedy, Drama)?'
    assert [row["response"] for row in rows] == ["4", "3.5", "5"]


def test_the_favourite_comes_after_everything_and_is_the_most_frequent(tmp_path):
    """Comedy twice, Drama once; user 8 rated only a movie without genres."""
    rows, counts = rows_of("movielens", latest(tmp_path), task="favourite")
    last = {row["user"]: row for row in rows if row["source_id"] == "favourite"}
    assert (last["7"]["query"], last["7"]["response"]) == ("Which genre do you choose most often?", "Comedy")
    assert last["7"]["time"] == max(row["time"] for row in rows if row["user"] == "7")
    assert last["8"]["problem"] == "no movie of the user has a genre"
    assert [row["task"] for row in rows] == ["next_item"] * 3 + ["favourite"] * 2
    assert (counts["questions for a favourite"], counts["users without a category"]) == (1, 1)


def test_equal_counts_go_by_the_alphabet(tmp_path):
    """So that every run asks for the same."""
    latest(tmp_path, ratings=RATINGS[:1], movies=[("1", "Kites (1990)", ["Drama", "Comedy"])])
    rows, _ = rows_of("movielens", tmp_path, task="favourite")
    assert rows[-1]["response"] == "Comedy"


def test_a_corpus_without_categories_has_no_favourites(tmp_path):
    """The message says what else could be asked."""
    latest(tmp_path, movies=[(one, title, []) for one, title, _ in MOVIES])
    assert len(rows_of("movielens", tmp_path)[0]) == 3
    with pytest.raises(CorpusError, match=r"no movie of .* has a genre.*next_item or stars"):
        rows_of("movielens", tmp_path, task="favourite")


def test_a_rating_of_an_unknown_movie_is_quarantined_and_counted(tmp_path):
    """And the user's other ratings are read."""
    rows, counts = rows_of("movielens", latest(tmp_path, ratings=[*RATINGS, ("7", "99", "4", "1000000000")]))
    assert [row["problem"] for row in rows if row["problem"]] == [
        "the movie has no title in the corpus's table of movies"
    ]
    assert (rows[-1]["user"], counts["ratings of unknown movies"], counts["ratings"]) == ("7", 1, 3)


@pytest.mark.parametrize(
    ("rating", "problem"),
    [
        (("7", "1", "many", "1000000000"), "the rating is not a number"),
        (("7", "1", "nan", "1000000000"), "the rating is not a number"),
        (("7", "1", "4", "soon"), "neither ISO 8601"),
        (("7", "1", "4"), "is not user, movie, rating and time"),
        (("7", "1", "6", "1000000000"), "none of the labels of task 'stars'"),
    ],
)
def test_a_rating_that_is_none_is_quarantined(tmp_path, rating, problem):
    """One line of a million must not stop the others."""
    folder = million(tmp_path)
    (folder / "ratings.dat").write_text("::".join(rating) + "\n" + "::".join(RATINGS[1]) + "\n")
    rows, _ = rows_of("movielens", folder, task="stars")
    assert [row["problem"] is None for row in rows] == [False, True]
    assert problem in rows[0]["problem"]


def test_a_folder_without_a_layout_or_without_the_movies_is_refused(tmp_path):
    """Ratings without titles cannot be asked about."""
    with pytest.raises(CorpusError, match=r"none of ratings\.csv, ratings\.dat, u\.data"):
        rows_of("movielens", tmp_path)
    (million(tmp_path) / "movies.dat").unlink()
    with pytest.raises(CorpusError, match=r"has no movies\.dat beside it"):
        rows_of("movielens", tmp_path)


def test_no_name_is_looked_for_in_titles(tmp_path):
    """User 300 is not mentioned by "300: The Rise"."""
    assert names_of("movielens", latest(tmp_path)) == []
