"""Tasks: wordings, labels, and how an earlier interaction is quoted."""

from __future__ import annotations

import pytest

from imprint.tasks import TASKS


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"citation"}))
def test_what_a_query_is_about_is_found_again_in_the_query(name):
    """LaMP retrieves by it; a wording that hides its own text would retrieve by the instruction."""
    task = TASKS[name]
    assert task.text_of(task.query(text="a {kite}:\nred.")) == "a {kite}:\nred."


def test_a_citation_is_about_the_two_references():
    """LaMP-1 searches by their titles, not by that of the paper that cites one of them."""
    task = TASKS["citation"]
    query = task.query(title='On "kites"', first='Wind: a "study"', second="Strings")
    assert task.text_of(query) == 'Wind: a "study" Strings'


@pytest.mark.parametrize(
    ("known_by", "names"),
    [
        ("{response}", ["dialogue", "answer", "text", "paraphrase", "next_item"]),
        ("{query} {response}", ["abstract", "tag", "news_category", "rating", "headline", "title", "stars", "review"]),
    ],
)
def test_a_user_is_known_by_what_persona_plug_embeds_of_an_interaction(known_by, names):
    """Table 7 of arXiv 2409.11901 for the tasks of LaMP."""
    assert {TASKS[name].known_by for name in names} == {known_by}


def test_a_query_in_other_words_is_about_all_of_itself():
    """A question that somebody worded otherwise is not cut."""
    assert TASKS["rating"].text_of("Good or bad? review: fine") == "Good or bad? review: fine"


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("abstract", '"kites"'),
        ("tag", 'the tag for the movie: "kites" is "red"'),
        ("news_category", 'the category for the article: "kites" is "red"'),
        ("rating", 'red is the score for "kites"'),
        ("headline", '"red" is the title for "kites"'),
        ("title", '"red" is a title for "kites"'),
        ("paraphrase", '"red"'),
    ],
)
def test_an_earlier_interaction_is_quoted_as_the_benchmark_quotes_it(name, quoted):
    """The strings of LaMP's retrieval prompts."""
    task = TASKS[name]
    assert task.quoted(task.query(text="kites"), "red") == quoted


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tag", "A, and B. {query}"),
        ("rating", "A, and B. {query}"),
        ("headline", "A, and B. {query}"),
        ("title", "A, and B. Following the given patterns {query}"),
        ("paraphrase", "A, and B are written by a person. Following the given patterns {query}"),
    ],
)
def test_quoted_interactions_stand_where_the_benchmark_has_them(name, expected):
    """LaMP's retrieval prompts."""
    task = TASKS[name]
    query = task.query(text="kites {and} strings")
    assert task.with_quotes(query, ["A", "B"]) == expected.replace("{query}", query)
    assert task.with_quotes(query, []) == query


def test_a_citation_is_asked_for_with_the_authors_other_papers_after_the_title():
    """LaMP-1 quotes inside the question; one in other words has them before it."""
    task = TASKS["citation"]
    query = task.query(title="Kites", first="Wind", second="Strings")
    assert task.with_quotes(query, ['"Sails"']) == query.replace('"Kites",', '"Kites", and "Sails",')
    assert task.with_quotes("Which one?", ['"Sails"']) == '"Sails". Which one?'


def test_the_label_sets_have_the_sizes_of_the_benchmark_and_nothing_twice():
    """A label that is missing or doubled changes accuracy without a word."""
    sizes = {name: len(task.labels) for name, task in TASKS.items() if task.labels}
    assert sizes == {"citation": 2, "tag": 15, "news_category": 15, "rating": 5, "stars": 10}
    assert all(len(set(task.labels)) == len(task.labels) for task in TASKS.values())


def test_the_labels_are_offered_in_the_query():
    """A question that names its choices names all of them."""
    for name in ("tag", "news_category"):
        assert all(label in TASKS[name].wording for label in TASKS[name].labels)


@pytest.mark.parametrize(
    ("name", "response", "refused"),
    [
        ("rating", "5", False),
        ("rating", " 5\n", False),
        ("rating", "6", True),
        ("rating", "5.0", True),
        ("stars", "4.5", False),
        ("stars", "0", True),
        ("citation", "1", True),
        ("tag", "Comedy", True),
        ("dialogue", "anything", False),
        ("category", "of the corpus's own", False),
    ],
)
def test_only_a_label_of_the_set_is_a_right_response(name, response, refused):
    """Free text and open sets refuse nothing."""
    assert TASKS[name].refuses(response) is refused


def test_ratings_are_numbers_in_order():
    """Mean absolute error is taken over them."""
    for task in TASKS.values():
        if task.kind == "rating":
            numbers = [float(label) for label in task.labels]
            assert numbers == sorted(numbers)
