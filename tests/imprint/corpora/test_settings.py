"""Corpus settings: what is refused, and what the refusal says."""

from __future__ import annotations

from importlib import import_module

import pytest
from corpus_rows import names_of
from pydantic import ValidationError

from imprint.corpora import CORPORA, ColumnMap, CorpusSettings, FabricateSettings, user_named
from imprint.corpora.reading import Reader


def test_an_unknown_format_is_refused_with_the_closest_known_one():
    """A typing error in YAML costs one look at the message."""
    with pytest.raises(ValidationError, match=r"'jsnol'; allowed are jsonl, .* Did you mean 'jsonl'\?"):
        CorpusSettings(format="jsnol", path="x")


def test_a_format_like_no_other_gets_no_suggestion():
    """A guess is made only where there is a close one."""
    with pytest.raises(ValidationError) as caught:
        CorpusSettings(format="spreadsheet-9000", path="x")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_every_listed_format_names_a_reader_that_exists(name):
    """The one line in `CORPORA` is all that a format needs, so it must lead to a reader."""
    module, reader = CORPORA[name].split(":")
    assert issubclass(getattr(import_module(module), reader), Reader)


@pytest.mark.parametrize("path", [None, "", "null", "None", "  "])
def test_all_ways_to_say_nothing_are_no_path(path):
    """YAML, environment variables and the command line write null differently."""
    assert CorpusSettings(format="fabricated", path=path).path is None
    with pytest.raises(ValidationError, match=r"corpus\.path is null"):
        CorpusSettings(format="jsonl", path=path)


def test_the_fabricated_corpus_takes_no_path():
    """A path beside `fabricated` means that the person wanted to read files."""
    with pytest.raises(ValidationError, match="made and not read"):
        CorpusSettings(format="fabricated", path="data/01_raw/chat.jsonl")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task", "dialog", "allowed are dialogue"),
        ("encoding", "utf-16", "newline is one byte"),
        ("encoding", "no-such", "does not know"),
        ("context_messages", 3, "less than or equal to 2"),
        ("pathh", "x", "Extra inputs"),
        ("fabricate", {"users": 0}, "greater than or equal to 1"),
        ("columns", {"usr": "a"}, "Extra inputs"),
    ],
)
def test_a_bad_value_is_refused_by_name(field, value, message):
    """Every guard of the settings has a value that it must reject."""
    with pytest.raises(ValidationError, match=message):
        CorpusSettings(**{"format": "jsonl", "path": "x", field: value})


def test_settings_are_frozen():
    """What a run recorded as its settings cannot change under it."""
    with pytest.raises(ValidationError, match="frozen"):
        ColumnMap().user = "other"


def test_the_corpus_name_defaults_to_the_format():
    """The name is part of every pseudonym."""
    assert CorpusSettings(format="fabricated").corpus_name == "fabricated"
    assert CorpusSettings(format="fabricated", name="demo").corpus_name == "demo"


@pytest.mark.parametrize("settings", [CorpusSettings, ColumnMap, FabricateSettings])
def test_every_field_is_described(settings):
    """A person reads these sentences instead of the code."""
    assert all(field.description for field in settings.model_fields.values())


@pytest.mark.parametrize(
    ("corpus_format", "name", "user"),
    [
        ("irc", " Wren_ ", "wren"),
        ("irc", "Wren|away", "wren"),
        ("irc", "[Night] owl`\n", "[night]owl"),
        ("irc", "Guest", None),
        ("medqa", "Dr. Wren  KITE", "wren kite"),
        ("medqa", "unknown", None),
        ("jsonl", " Wren_ ", "Wren_"),
        ("msc", "train_1/0", "train_1/0"),
        ("fabricated", "fabricated-0001", "fabricated-0001"),
        ("jsonl", "  ", None),
        ("irc", "null_", None),
    ],
)
def test_a_name_as_a_person_writes_it_is_the_user_as_the_reader_has_them(corpus_format, name, user):
    """By the reader's own rule, and without the corpus."""
    assert user_named(corpus_format, name) == user


def test_an_id_that_means_nobody_is_no_name(tmp_path):
    """Else the word "none" would be masked wherever it stands in a text."""
    path = tmp_path / "chat.csv"
    path.write_text("user_id,query,response\n" + "".join(f"{one},tea?,yes\n" for one in ("None", "null", "nan", "ann")))
    assert names_of("csv", path) == ["ann"]
