"""Corpora: one module a public format. To add a corpus, write a `Reader` and add its line to `CORPORA`."""

from __future__ import annotations

from importlib import import_module

from imprint.corpora.reading import Corpus
from imprint.corpora.settings import ColumnMap, CorpusSettings, FabricateSettings

__all__ = ["CORPORA", "ColumnMap", "Corpus", "CorpusSettings", "FabricateSettings", "open_corpus"]

CORPORA: dict[str, str] = {
    "jsonl": "imprint.corpora.columns:JsonLines",
    "csv": "imprint.corpora.columns:Csv",
    "parquet": "imprint.corpora.columns:Parquet",
    "msc": "imprint.corpora.msc:Msc",
    "irc": "imprint.corpora.irc:Irc",
    "medqa": "imprint.corpora.medqa:MedQa",
    "fabricated": "imprint.corpora.fabricate:Fabricated",
}
"""Format name to `module:Reader`; the module is imported when a corpus of that format is opened."""


def open_corpus(settings: CorpusSettings) -> Corpus:
    """The corpus that `settings` name, after every check that needs no full pass.

    Raises `CorpusError` for a missing path, a file where a folder is needed and the reverse, an empty file,
    UTF-16, and missing columns.
    """
    module, reader = CORPORA[settings.format].split(":")
    return Corpus(settings, getattr(import_module(module), reader)(settings))
