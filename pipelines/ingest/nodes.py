"""Read a corpus into interactions under pseudonyms."""

from pathlib import Path
from typing import Any

from imprint.corpora.settings import CorpusSettings
from imprint.data.ingest import IngestSettings
from pipelines import progress


def ingest_corpus(
    corpus: CorpusSettings, ingest: IngestSettings, pseudonym_key: Path, spool: Path
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The corpus as a table of interactions, not yet validated; what was read; the names masked in it, hashed."""
    from imprint.corpora import open_corpus
    from imprint.data.ingest import ingest as ingest_rows
    from imprint.data.pseudonyms import load_key
    from imprint.data.tables import write_table
    from imprint.schema import ingested_schema

    opened = open_corpus(corpus)  # refuses a corpus that is not what it was said to be, before any work
    key = load_key(pseudonym_key, corpus.format)
    rows, report, known_names = ingest_rows(opened, ingest, key, spool, progress.rows)
    table = spool / "ingested"
    write_table(table, rows, ingested_schema())
    return table, report, known_names
