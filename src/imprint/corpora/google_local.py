"""Google Local reviews of 2021: places, ratings, texts.

Provenance: McAuley Lab, UC San Diego: Li, Shang, McAuley, "UCTopic", ACL 2022, and Yan et al., "Personalized
Showcases", SIGIR 2023; https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal, `review-<State>.json.gz`
(or `review-<State>_10.json.gz`, the 10-core) with `meta-<State>.json.gz`. Licence: none stated; given out for research,
with citations asked for. Rows: 666 million reviews of the United States; Vermont, 10-core: 324,725.

Tasks: `review`, `rating`, `next_item` (the place's name), `favourite` (the category); reviews have no titles.

Known defects: many reviews have a rating and no text (for `review` and `rating` they are quarantined as blank, so
choose `next_item` or raise `validate.max_quarantined_share`); texts in other languages begin with "(Translated by
Google)"; a review can occur twice; reviewers' names are in the file: they are masked in texts where they have two words
and kept nowhere. Chains have many places of one name, which only the attribute `item` tells apart. Times are
milliseconds. The files of 2018 are Python literals with other names, and are not read.
"""

from __future__ import annotations

from typing import Any

from imprint.corpora.columns import parsed_time
from imprint.corpora.items import Event, Item, rating_label
from imprint.corpora.reviews import ReviewReader, needed, plain_text


class GoogleLocal(ReviewReader):
    """`review-*` files, with `meta-*` files for the places' names and categories."""

    tasks = ("review", "rating", "next_item", "favourite")
    noun = "place"
    kinds = "category"

    def reviews_of(self, record: dict[str, Any]) -> list[Any]:
        """The record: a line is a review."""
        return [record]

    def event_of(self, review: dict[str, Any], where: str, source_id: str) -> Event:
        """One review."""
        place = needed(review, "gmap_id")
        return Event(
            where=where,
            source_id=source_id,
            user=needed(review, "user_id"),
            item_id=place,
            item=self.items().get(place),
            rating=rating_label(needed(review, "rating")),
            time=parsed_time(review.get("time")),
            text=plain_text(review.get("text")),
        )

    def item_of(self, record: dict[str, Any]) -> tuple[str, Item]:
        """A place of `meta-*`; its `category` is a list or null."""
        kinds = tuple(name for name in record.get("category") or [] if isinstance(name, str))
        return str(record.get("gmap_id")), Item(plain_text(record.get("name")) or "", kinds)

    def person_of(self, review: dict[str, Any]) -> str | None:
        """The reviewer's name."""
        name = review.get("name")
        return name if isinstance(name, str) else None
