"""Amazon reviews of 2018 and of 2023.

Provenance: McAuley Lab, UC San Diego. 2018: Ni, Li, McAuley, "Justifying Recommendations using Distantly-Labeled
Reviews and Fine-Grained Aspects", EMNLP 2019, https://nijianmo.github.io/amazon, `<Category>_5.json(.gz)` with
`meta_<Category>.json(.gz)`. 2023: Hou et al., "Bridging Language and Items for Retrieval and Recommendation", arXiv
2403.03952, https://amazon-reviews-2023.github.io, `<Category>.jsonl(.gz)` with `meta_<Category>.jsonl(.gz)`, and the
5-core CSV (without texts). A third shape is read too: a line a user and category, `history` and `heldout`, with the
product inside. Licence: none stated; both pages ask for citation and are given out for research. Rows, for example:
Gift Cards 2018, 5-core: 2,972 lines, 2,111 reviews of 458 users; All Beauty 2018, 5-core: 5,269 lines, 1,381 reviews.

Tasks: `review` (the text, from product, categories and rating), `rating` (from the text, in LaMP's words),
`review_title`, `next_item` (the product's title), `favourite` (the category; of 2018 without its first one, which is
that of the whole file, wherever there are more). A product without a title in the table cannot be a next item.

Known defects: the same text repeats over the variants of a product, so a user's equal texts are one review (counted);
a few reviews have no text or no summary; texts hold `<br />` (a newline here) and HTML entities (decoded); sentences
and mark-up have slipped among the categories of 2018 (what ends in a dot or holds `<` is none); reviewers of 2018 go
by a name, which is masked in texts where it has two words, or by a shared one such as "Amazon Customer". Users of the
third shape occur in several of its files: they are one user here, so a split by file would leak. Times are seconds
(2018) or milliseconds (2023).
"""

from __future__ import annotations

from typing import Any

from imprint.corpora.columns import parsed_time
from imprint.corpora.items import Event, Item, rating_label
from imprint.corpora.reviews import ReviewReader, needed, plain_text

SHARED_NAMES = frozenset({"amazon customer", "kindle customer", "a customer", "amazon shopper", "a reader"})


class Amazon(ReviewReader):
    """Reviews in any of the shapes; a record's keys say which."""

    noun = "product"
    kinds = "category"

    def reviews_of(self, record: dict[str, Any]) -> list[Any]:
        """The record itself, or the reviews of a user's history with the one held out last."""
        if "history" not in record or isinstance(record["history"], str):
            return [record]
        reviews = [*(record["history"] or []), record.get("heldout")]
        shared = {"user_id": record.get("user_id"), "category": record.get("category")}
        return [{**shared, **review} if isinstance(review, dict) else review for review in reviews]

    def event_of(self, review: dict[str, Any], where: str, source_id: str) -> Event:
        """One review of any shape."""
        item_id = needed(review, "parent_asin", "asin")
        return Event(
            where=where,
            source_id=source_id,
            user=needed(review, "user_id", "reviewerID"),
            item_id=item_id,
            item=self.items().get(item_id) or _inside(review),
            rating=rating_label(needed(review, "rating", "overall")),
            time=parsed_time(next((review[name] for name in _TIMES if name in review), None)),
            text=plain_text(next((review[name] for name in _TEXTS if name in review), None)),
            headline=plain_text(next((review[name] for name in _TITLES if name in review), None)),
        )

    def item_of(self, record: dict[str, Any]) -> tuple[str, Item]:
        """A product of `meta_*`: of 2023 by `parent_asin`, of 2018 by `asin`."""
        listed = record.get("categories") or record.get("category") or []
        names = [plain_text(name) or "" for name in listed if isinstance(name, str)]
        kinds = tuple(dict.fromkeys(name for name in names if name and "<" not in name and not name.endswith(".")))
        title = plain_text(record.get("title")) or ""
        return str(record.get("parent_asin") or record.get("asin")), Item(title, kinds[1:] or kinds)

    def person_of(self, review: dict[str, Any]) -> str | None:
        """The name a reviewer of 2018 goes by."""
        name = review.get("reviewerName")
        return name if isinstance(name, str) and name.lower() not in SHARED_NAMES else None


_TIMES = ("unixReviewTime", "timestamp_ms", "timestamp")
_TEXTS = ("reviewText", "review_full", "text")
_TITLES = ("summary", "review_title", "title")


def _inside(review: dict[str, Any]) -> Item | None:
    """The product that a review of the third shape brings with it."""
    product = review.get("product")
    if not isinstance(product, dict):
        return None
    kind = product.get("main_category") or review.get("category")
    return Item(plain_text(product.get("title")) or "", (str(kind),) if kind else ())
