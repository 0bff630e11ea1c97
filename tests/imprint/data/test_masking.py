"""Masking of mentions: who is masked, which words are left, and that long texts cost no more than their length."""

from __future__ import annotations

import time
from functools import partial

import pytest

from imprint.data.masking import KnownNames, Masker
from imprint.data.pseudonyms import name_hash

NAMES = ["wren", "bob2", "|quad-", "kite^^", "night_owl", "linux", "al", "42", "Dr. Ada Finch", "T. J. Crow"]
NAMES += ["robin.day@example.org", "jay.b", "O'Linnet", "Anne-Lee O'Dove", "+kestrel"]
HASHED = partial(name_hash, b"key of the tests", "chat")


def stored(masker):
    """What ingest leaves on disk of a masker."""
    return KnownNames.model_validate_json(masker.known_names(HASHED).model_dump_json())


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("wren: try again", "@user: try again"),
        ("Wren, try again", "@user, try again"),
        ("WREN> hm", "@user> hm"),
        ("  wren : no", "  @user : no"),
        ("thanks @wren!", "thanks @user!"),
        ("ask wren about it", "ask @user about it"),
        ("ask (wren) or bob2.", "ask (@user) or @user."),
        ("wren_ and wren` and wren|away", "@user and @user and @user"),
        ("[wren] said", "[@user] said"),
        ("|quad-: and kite^^ too", "@user: and @user too"),
        ("wrenches and wren's bowren", "wrenches and @user's bowren"),
        ("night_owl is not night owl", "@user is not night owl"),
        ("al: yes", "@user: yes"),
        ("al or et al", "al or et al"),
        ("42: no, 42 it is", "@user: no, 42 it is"),
        ("Dr. Ada Finch said", "@user said"),
        ("ada finch said", "@user said"),
        ("ask dr finch, or Dr. Ada", "ask @user, or @user"),
        ("a finch sings", "a finch sings"),
        ("T.J. Crow and t j crow", "@user and @user"),
        ("ada, finch", "ada, finch"),
        ("mail robin.day@example.org.", "mail @user."),
        ("Robin.Day@example.org's", "@user's"),
        ("robin.day@example.com", "robin.day@example.com"),
        ("jay.b: no, @jay.b", "@user: no, @user"),
        ("jay.bird and jay b", "jay.bird and jay b"),
        ("o'linnet and O’Linnet", "@user and @user"),
        ("Anne-Lee O'Dove, anne lee o’dove", "@user, @user"),
        ("ask kestrel", "ask @user"),
        ("", ""),
        ("wren", "@user"),
    ],
)
def test_mentions_become_at_user(text, masked):
    """The rule of the module, case by case, in a corpus that has shown nothing yet."""
    assert Masker(NAMES).mask(text) == masked
    assert Masker.knowing(stored(Masker(NAMES)), HASHED).mask(text) == masked


def test_an_address_is_never_an_ordinary_word():
    """However often it is written, and never to begin with."""
    masker = Masker(NAMES)
    for _ in range(100):
        masker.learn("mail robin.day@example.org or jay.b")
    assert masker.mask("mail robin.day@example.org or jay.b") == "mail @user or jay.b"


def test_no_name_is_stored_in_clear_nor_in_an_order_that_tells():
    """Whoever holds the file and not the key learns how many names there are."""
    known = stored(Masker(NAMES))
    text = known.model_dump_json().lower()
    assert [name for name in ("wren", "bob2", "quad", "owl", "linux", "finch", "crow") if name in text] == []
    assert known == stored(Masker(reversed(NAMES)))
    assert (len(known.names), len(known.phrases), len(known.parts)) == (12, 3, 6)


def test_another_key_knows_nobody():
    """The hashes are keyed: a list of likely names is of no use without the key."""
    elsewhere = Masker.knowing(stored(Masker(NAMES)), partial(name_hash, b"another key", "chat"))
    assert elsewhere.mask("wren: ask Dr. Ada Finch") == "wren: ask Dr. Ada Finch"


def test_an_ordinary_word_stays_unless_it_is_addressed():
    """A user called linux must not cost a Linux channel its most used word."""
    masker = Masker(NAMES)
    for _ in range(21):
        masker.learn("i run linux here")
    assert masker.is_ordinary("linux")
    assert masker.mask("linux, well, linux and @linux") == "linux, well, linux and @user"
    assert masker.mask("linux: come here") == "@user: come here"
    kept = Masker.knowing(stored(masker), HASHED)
    assert kept.is_ordinary("Linux")
    assert not kept.is_ordinary("wren")
    assert kept.mask("linux, well, linux and @linux") == "linux, well, linux and @user"


@pytest.mark.parametrize(("elsewhere", "addressed", "ordinary"), [(20, 0, False), (21, 0, True), (21, 5, False)])
def test_ordinary_needs_many_uses_and_few_addresses(elsewhere, addressed, ordinary):
    """A person much talked to is much talked about as well."""
    masker = Masker(["wren"])
    for _ in range(elsewhere):
        masker.learn("so wren did it")
    for _ in range(addressed):
        masker.learn("wren: did you?")
    assert masker.is_ordinary("wren") is ordinary


def test_what_was_masked_is_counted():
    """The report of ingest shows the number."""
    masker = Masker(NAMES)
    masker.mask("wren: tell bob2, and Dr. Ada Finch")
    masker.mask("nobody")
    assert masker.masked == 3


def test_time_is_linear_in_the_text_and_does_not_depend_on_the_number_of_names():
    """A megabyte against 50,000 names in a few seconds: no alternation over names, no quadratic scan."""
    masker = Masker([f"nick{number}" for number in range(50_000)])
    text = "nick7: some words about nick49999| ` " * 27_000
    started = time.perf_counter()
    assert masker.mask(text).count("@user") == 54_000
    assert time.perf_counter() - started < 10
