"""Answer requests, each by its user's own memory."""

from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.corpora.settings import CorpusSettings
from imprint.memory.settings import MemorySettings
from imprint.personalizers.requests import RespondSettings
from pipelines.progress import bar


def respond_to_requests(
    user_index: Any,
    pooled_model: dict[str, Any],
    memories: dict[str, Any],
    known_names: dict[str, Any],
    corpus: CorpusSettings,
    base: BaseSettings,
    memory: MemorySettings,
    respond: RespondSettings,
    pseudonym_key: Path,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The responses, and the requests that were refused with their reasons."""
    from imprint.data.pseudonyms import load_key
    from imprint.memory.inject import StoreRecord
    from imprint.memory.store import MemoryStore
    from imprint.personalizers.methods import answering
    from imprint.personalizers.requests import CorpusTerms, answer, read_requests
    from imprint.storage import at

    store = StoreRecord(**memories)
    terms = CorpusTerms(corpus, load_key(pseudonym_key, corpus.format), known_names)
    sparse = {row["user_id"] for row in user_index.to_table(columns=["user_id"]).to_pylist()}
    requests, refused = read_requests(at(respond.requests), MemoryStore(at(store.path)), sparse, terms)
    methods = answering(memories, pooled_model, base, memory.fleet)
    return answer(methods, requests, respond.max_new_tokens, bar("respond", "request")), refused
