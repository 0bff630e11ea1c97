"""The public corpora themselves, where a machine has them: set IMPRINT_REAL_DATA to the folder of unpacked archives."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from imprint.corpora import CorpusSettings, open_corpus
from imprint.corpora.reading import READ

REAL = os.environ.get("IMPRINT_REAL_DATA")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not REAL, reason="IMPRINT_REAL_DATA is not set: the public corpora are not on this machine"),
]


@pytest.mark.parametrize(
    ("kind", "task", "folder", "rows", "users", "without_user", "unreadable"),
    [
        ("irc", None, "irc-disentanglement", 218_184, 16_823, 610, 1),
        ("msc", None, "msc", 49_834, 2_002, 0, 0),
        ("medqa", None, "lasseregin-medqa", 6_315, 100, 649, 0),
        ("movielens", "next_item", "ml-latest-small", 100_836, 610, 0, 0),
        ("movielens", "favourite", "ml-latest-small", 101_446, 610, 0, 0),
        ("amazon", "review", "amazon-gift-cards-5", 2_112, 458, 0, 0),
        ("amazon", "favourite", "amazon-gift-cards-5", 2_570, 458, 0, 0),
        ("amazon", "rating", "amazon-all-beauty-5", 1_382, 991, 0, 0),
        ("amazon", "review_title", "amazon2023-users", 3_328, 354, 0, 0),
        ("crd3", None, "crd3", 398_682, 57, 2_907, 0),
        ("synthetic_persona_chat", None, "synthetic-persona-chat", 54_233, 1_065, 12, 0),
        ("mts_dialog", None, "mts-dialog", 15_935, 3_514, 0, 0),
        ("aci_bench", None, "aci-bench", 11_436, 417, 1, 0),
        ("counsel_chat", None, "counsel-chat", 2_008, 307, 0, 0),
        ("lamp", "rating", "lamp-format-derived", 5_031, 605, 0, 20),
    ],
)
def test_the_corpus_has_the_rows_that_its_reader_promises(kind, task, folder, rows, users, without_user, unreadable):
    """Counts found once by hand; source ids are unique within a user; kinds add up to the lines read."""
    corpus = open_corpus(CorpusSettings(format=kind, task=task, path=str(Path(REAL or "") / folder)))
    found: Counter[str | None] = Counter()
    ids: set[tuple[str | None, str]] = set()
    broken = 0
    for batch in corpus.batches():
        names = batch.column("user").to_pylist()
        found.update(names)
        ids.update(zip(names, batch.column("source_id").to_pylist(), strict=True))
        broken += batch.num_rows - batch.column("problem").null_count
    assert found[None] == without_user
    assert (found.total(), len([name for name in found if name is not None]), broken) == (rows, users, unreadable)
    assert len(ids) == rows
    assert sum(number for kind, number in corpus.counts.items() if kind != READ) == corpus.counts[READ]
