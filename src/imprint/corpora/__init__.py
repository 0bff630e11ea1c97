"""Corpora: one module a public format. To add a corpus, write a `Reader` and add its line to `CORPORA`."""

from __future__ import annotations

from importlib import import_module

from imprint.corpora.reading import Corpus, Reader, known_user
from imprint.corpora.settings import ColumnMap, CorpusSettings, FabricateSettings

__all__ = ["CORPORA", "ColumnMap", "Corpus", "CorpusSettings", "FabricateSettings", "open_corpus", "user_named"]

CORPORA: dict[str, str] = {
    "jsonl": "imprint.corpora.columns:JsonLines",
    "csv": "imprint.corpora.columns:Csv",
    "parquet": "imprint.corpora.columns:Parquet",
    "msc": "imprint.corpora.msc:Msc",
    "irc": "imprint.corpora.irc:Irc",
    "medqa": "imprint.corpora.medqa:MedQa",
    "lamp": "imprint.corpora.lamp:Lamp",
    "movielens": "imprint.corpora.movielens:MovieLens",
    "amazon": "imprint.corpora.amazon:Amazon",
    "google_local": "imprint.corpora.google_local:GoogleLocal",
    "amazon_qa": "imprint.corpora.amazon_qa:AmazonQa",
    "reddit": "imprint.corpora.reddit:Reddit",
    "personachat": "imprint.corpora.personachat:PersonaChat",
    "synthetic_persona_chat": "imprint.corpora.personachat:SyntheticPersonaChat",
    "crd3": "imprint.corpora.crd3:Crd3",
    "mts_dialog": "imprint.corpora.clinical:MtsDialog",
    "aci_bench": "imprint.corpora.clinical:AciBench",
    "counsel_chat": "imprint.corpora.counsel_chat:CounselChat",
    "malp": "imprint.corpora.malp:Malp",
    "fabricated": "imprint.corpora.fabricate:Fabricated",
}
"""Format name to `module:Reader`; the module is imported when a corpus of that format is opened."""


def open_corpus(settings: CorpusSettings) -> Corpus:
    """The corpus that `settings` name, after every check that needs no full pass.

    Raises `CorpusError` for a missing path, a file where a folder is needed and the reverse, an empty file,
    UTF-16, and missing columns.
    """
    return Corpus(settings, _reader(settings.format)(settings))


def user_named(corpus_format: str, name: str) -> str | None:
    """The raw id under which the format's reader has the user that a person calls `name`; None where it is nobody's.

    Needs no corpus: `respond` asks it long after the corpus was read.
    """
    cleaned = known_user(name)
    return None if cleaned is None else known_user(_reader(corpus_format).user_of(cleaned))


def _reader(corpus_format: str) -> type[Reader]:
    module, reader = CORPORA[corpus_format].split(":")
    found: type[Reader] = getattr(import_module(module), reader)
    return found
