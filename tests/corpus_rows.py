"""A corpus in a folder as plain rows, for the tests of its reader."""

from __future__ import annotations

import gzip
import json

from imprint.corpora import CorpusSettings, open_corpus
from imprint.corpora.reading import READ


def rows_of(kind, path, **settings):
    """The rows (attributes as a dict) and what the reader counted; the kinds add up to what was read."""
    corpus = open_corpus(CorpusSettings(format=kind, path=str(path), **settings))
    rows = [row | {"attributes": dict(row["attributes"])} for batch in corpus.batches() for row in batch.to_pylist()]
    assert sum(number for kind, number in corpus.counts.items() if kind != READ) == corpus.counts[READ]
    ids = [(row["user"], row["source_id"]) for row in rows]
    assert len(set(ids)) == len(ids)
    return rows, corpus.counts


def names_of(kind, path, **settings):
    """Under which names people may be mentioned."""
    return list(open_corpus(CorpusSettings(format=kind, path=str(path), **settings)).user_names())


def written(path, content):
    """Text as it is, a list of objects as JSON lines; packed where the name ends in `.gz`. Returns the folder."""
    text = content if isinstance(content, str) else "".join(json.dumps(one) + "\n" for one in content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path.parent
