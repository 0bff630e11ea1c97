"""MovieLens: ratings of movies, with titles and genres.

Provenance: GroupLens, University of Minnesota (Harper and Konstan, "The MovieLens Datasets", TiiS 5(4), 2015),
https://grouplens.org/datasets/movielens. Licence as stated: research use, no commercial use without permission; the
small and latest sets may be passed on under the same conditions, 100K and 1M may not. Rows: ml-latest-small 100,836
ratings, 610 users, 9,742 movies; 100K: 100,000, 943, 1,682; 1M: 1,000,209, 6,040, 3,883. Three layouts: `ratings.csv`
with `movies.csv` (latest, 20M, 25M, 32M), `ratings.dat` with `movies.dat` (1M, 10M), `u.data` with `u.item` (100K).

Tasks: `next_item` (the title), `stars` (the rating, from the title and the genres), `favourite` (the genre). Times are
seconds since 1970, UTC. Tags and demographic files are not read.

Known defects: some movies have `(no genres listed)` (34 of the small set) or the genre `unknown`: no categories; a few
titles have no year, and a few (5 of the small set) are those of two movies, which only the attribute `item` tells
apart; many ratings of a user share one time, for people rate lists. `.dat` and `u.item` are Latin-1. A rating of a
movie that the table lacks is quarantined where the task needs its title. Users are numbers, so no name is masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from imprint.corpora.columns import UnreadableRowError, parsed_time
from imprint.corpora.items import Event, Item, ItemReader, rating_label
from imprint.corpora.reading import READ, RawRow, decoded_lines, need_folder, refuse_unreadable
from imprint.corpora.records import csv_rows
from imprint.errors import CorpusError

GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The order of the flags in `u.item` (its `u.genre`)."""
NO_GENRE = frozenset({"(no genres listed)", "unknown", ""})

Fields = Iterator[tuple[int, list[str] | None, str | None]]


@dataclass(frozen=True, slots=True)
class Layout:
    """How one release is laid out. `ratings` yields (line, [user, movie, rating, time] or None, problem)."""

    ratings_name: str
    movies_name: str
    ratings: Callable[[Path], Fields]
    movies: Callable[[Path], dict[str, Item]]


class MovieLens(ItemReader):
    """A folder with one release somewhere below."""

    tasks = ("next_item", "stars", "favourite")
    noun = "movie"
    kinds = "genre"

    def check(self) -> None:
        """Raise `CorpusError` where no layout is there, or its table of movies is missing or empty."""
        folder = need_folder(self.settings, " or ".join(layout.ratings_name for layout in LAYOUTS))
        found = [(layout, file) for layout in LAYOUTS for file in sorted(folder.rglob(layout.ratings_name))]
        if not found:
            raise CorpusError(
                f"corpus.path {self.settings.path!r} has none of {', '.join(one.ratings_name for one in LAYOUTS)} "
                "anywhere below. Next: name the folder into which MovieLens was unpacked."
            )
        self._layout, self._ratings = found[0]
        movies = self._ratings.with_name(self._layout.movies_name)
        if not movies.is_file():
            raise CorpusError(
                f"{self._ratings} has no {movies.name} beside it, so no movie has a title. Next: put it there."
            )
        refuse_unreadable(self._ratings)
        refuse_unreadable(movies)
        self._movies = self._layout.movies(movies)

    def events(self, counts: Counter[str]) -> Iterator[Event | RawRow]:
        """An event a rating; kinds of lines: `ratings`, `ratings of unknown movies`, `unreadable`."""
        for line, fields, problem in self._layout.ratings(self._ratings):
            counts[READ] += 1
            where = f"{self._ratings.name}:{line}"
            try:
                event = self._event(fields, problem, where)
            except UnreadableRowError as error:
                counts["unreadable"] += 1
                yield RawRow(where=where, source_id=where, task=self.task, problem=str(error))
                continue
            counts["ratings" if event.item else "ratings of unknown movies"] += 1
            yield event

    def _event(self, fields: list[str] | None, problem: str | None, where: str) -> Event:
        if fields is None or len(fields) < 4:
            raise UnreadableRowError(problem or "the line is not user, movie, rating and time")
        user, movie, rating, time = fields[:4]
        item = self._movies.get(movie)
        return Event(where, f"movie {movie}", user, movie, item, rating_label(rating), parsed_time(time))

    def names(self) -> Iterator[str]:
        """None: users are numbers, and a title such as "300" is no mention of one."""
        return iter(())


def _csv_ratings(path: Path) -> Fields:
    for line, record, problem in csv_rows(path, ["userId", "movieId", "rating", "timestamp"]):
        fields = record and [record["userId"], record["movieId"], record["rating"], record["timestamp"]]
        yield line, fields or None, problem


def _csv_movies(path: Path) -> dict[str, Item]:
    rows = csv_rows(path, ["movieId", "title", "genres"])
    return {row["movieId"]: _movie(row["title"], row["genres"].split("|")) for _, row, _ in rows if row}


def _separated(separator: str) -> Callable[[Path], Fields]:
    def fields(path: Path) -> Fields:
        for line, text, problem in decoded_lines(path, "latin-1"):
            yield line, None if text is None else text.split(separator), problem

    return fields


def _dat_movies(path: Path) -> dict[str, Item]:
    rows = (fields for _, fields, _ in _separated("::")(path) if fields and len(fields) == 3)
    return {movie: _movie(title, genres.split("|")) for movie, title, genres in rows}


def _flagged_movies(path: Path) -> dict[str, Item]:
    """`u.item`: id, title, two dates, a link, then a 0 or 1 for each genre."""
    rows = (fields for _, fields, _ in _separated("|")(path) if fields and len(fields) == 5 + len(GENRES_100K))
    return {
        row[0]: _movie(row[1], [genre for genre, flag in zip(GENRES_100K, row[5:], strict=True) if flag == "1"])
        for row in rows
    }


def _movie(title: str, genres: list[str]) -> Item:
    return Item(title.strip(), tuple(genre for genre in genres if genre not in NO_GENRE))


LAYOUTS = (
    Layout("ratings.csv", "movies.csv", _csv_ratings, _csv_movies),
    Layout("ratings.dat", "movies.dat", _separated("::"), _dat_movies),
    Layout("u.data", "u.item", _separated("\t"), _flagged_movies),
)
