"""What a row can ask for: every task, what a right response looks like, and how a query is worded.

The wordings and label sets of LaMP's tasks are the benchmark's own (Salemi et al., "LaMP: When Large Language Models
Meet Personalization", ACL 2024, arXiv 2304.11406; released prompts). A response that is none of its task's labels is
refused where a corpus is read (`corpora.reading`), and evaluation scores `label` and `rating` tasks over `labels`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from string import Formatter
from typing import Literal

Kind = Literal["text", "label", "rating", "item"]
"""text: free text. label: one of a set. rating: one of a set of numbers, so that distances count. item: one of the
corpus's catalogue, the distinct responses of its rows."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task. `labels` is empty for free text, and where the corpus itself is the set (its distinct responses).

    `about` are the wording's fields that a query is about; `known_by` is what an earlier interaction says of its user
    (Persona-Plug, arXiv 2409.11901, table 7): what a label was given for belongs to it, a turn stands for itself.
    `quoting` is a query with such interactions, each worded as in `quote`, in it.
    """

    name: str
    kind: Kind
    wording: str = "{text}"
    labels: tuple[str, ...] = ()
    quote: str = '"{text}" "{response}"'
    quoting: str = "{items}. {query}"
    about: str = "{text}"
    known_by: str = "{query} {response}"

    @property
    def searched_by(self) -> str:
        """What an earlier interaction is found by: a label's own words are not what a text is about (LaMP's code)."""
        return "{query} {response}" if self.kind in ("text", "item") else "{query}"

    def query(self, **fields: str) -> str:
        """The query as a user is asked: `wording` with its fields filled in."""
        return self.wording.format(**fields)

    def text_of(self, query: str) -> str:
        """What a query is about: its fields without the words around them, or all of it where it is worded otherwise.

        LaMP retrieves by this text, not by the instruction in front of it; of citations by the two references' titles.
        """
        fields = _pattern(self.wording).fullmatch(query)
        return query if fields is None else self.about.format(**fields.groupdict())

    def quoted(self, query: str, response: str) -> str:
        """An earlier interaction as LaMP's prompts quote it (the benchmark's appendix on prompts)."""
        return self.quotation(self.text_of(query), response)

    def quotation(self, text: str, response: str) -> str:
        """The same of what the query is about."""
        return self.quote.format(text=text, response=response)

    def with_quotes(self, query: str, quotes: Sequence[str]) -> str:
        """`query` with quoted interactions where LaMP's prompts have them; without any it is as it was."""
        if not quotes:
            return query
        fields, items = _pattern(self.wording).fullmatch(query), ", and ".join(quotes)
        if fields is None:  # worded otherwise: before it all
            return f"{items}. {query}"
        return self.quoting.format(items=items, query=query, **fields.groupdict())

    def refuses(self, response: str) -> bool:
        """Whether `response` is none of the task's labels."""
        return bool(self.labels) and response.strip() not in self.labels


MOVIE_TAGS = (
    "sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy", "classic",
    "psychology", "fantasy", "romance", "thought-provoking", "social commentary", "violence", "true story",
)  # fmt: skip
NEWS_CATEGORIES = (
    "travel", "education", "parents", "style & beauty", "entertainment", "food & drink", "science & technology",
    "business", "sports", "healthy living", "women", "politics", "crime", "culture & arts", "religion",
)  # fmt: skip
SCORES = ("1", "2", "3", "4", "5")
STARS = ("0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4", "4.5", "5")

_ONE_ANSWER = "Just answer with the {} name without further explanation."

_AUTHOR = 'For an author who has written the paper with the title "{title}"'
_REFERENCES = (
    'which reference is related? Just answer with [1] or [2] without explanation. [1]: "{first}" [2]: "{second}"'
)

_ALL = (
    Task("dialogue", "text", known_by="{response}"),
    Task("answer", "text", known_by="{response}"),
    Task("text", "text", quote='"{response}"', known_by="{response}"),
    Task("abstract", "text", "Write an abstract for this title: {text}", quote='"{text}"'),
    Task(
        "title",
        "text",
        "Generate a title for the following abstract of a paper: {text}",
        quote='"{response}" is a title for "{text}"',
        quoting="{items}. Following the given patterns {query}",
    ),
    Task(
        "headline",
        "text",
        "Generate a headline for the following article: {text}",
        quote='"{response}" is the title for "{text}"',
    ),
    Task(
        "subject",
        "text",
        "Generate a subject for the following email: {text}",
        quote='"{response}" is the title for "{text}"',
    ),
    Task(
        "paraphrase",
        "text",
        "Paraphrase the following tweet without any explanation before or after it: {text}",
        quote='"{response}"',
        quoting="{items} are written by a person. Following the given patterns {query}",
        known_by="{response}",
    ),
    Task("review", "text", "Write a review of {text}."),
    Task("review_title", "text", "Write a title for the following review: {text}"),
    Task(
        "citation",
        "label",
        f"{_AUTHOR}, {_REFERENCES}",
        ("[1]", "[2]"),
        quoting=f"{_AUTHOR}, and {{items}}, {_REFERENCES}",
        about="{first} {second}",
    ),
    Task(
        "tag",
        "label",
        f"Which tag does this movie relate to among the following tags? {_ONE_ANSWER.format('tag')} "
        f"tags: [{', '.join(MOVIE_TAGS)}] description: {{text}}",
        MOVIE_TAGS,
        'the tag for the movie: "{text}" is "{response}"',
    ),
    Task(
        "news_category",
        "label",
        f"Which category does this article relate to among the following categories? {_ONE_ANSWER.format('category')} "
        f"categories: [{', '.join(NEWS_CATEGORIES)}] article: {{text}}",
        NEWS_CATEGORIES,
        'the category for the article: "{text}" is "{response}"',
    ),
    Task("category", "label"),
    Task("favourite", "label", "Which {text} do you choose most often?"),
    Task(
        "rating",
        "rating",
        "What is the score of the following review on a scale of 1 to 5? "
        "just answer with 1, 2, 3, 4, or 5 without further explanation. review: {text}",
        SCORES,
        '{response} is the score for "{text}"',
    ),
    Task("stars", "rating", "How many stars, from 0.5 to 5, do you give to {text}?", STARS),
    Task("next_item", "item", "Which {text} do you choose next?", quote='"{response}"', known_by="{response}"),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""Every task by the name that the column `task` holds."""


@cache
def _pattern(wording: str) -> re.Pattern[str]:
    """What a query in this wording looks like, a group a field."""
    parts = (
        re.escape(words) + (f"(?P<{field}>.*?)" if field else "") for words, field, _, _ in Formatter().parse(wording)
    )
    return re.compile("".join(parts), re.DOTALL)
