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
    memories: Any,
    known_names: dict[str, Any],
    corpus: CorpusSettings,
    base: BaseSettings,
    memory: MemorySettings,
    respond: RespondSettings,
    pseudonym_key: Path,
    shard_names: list[str],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The responses, and the requests that were refused with their reasons. Only shards of users who ask are opened."""
    from imprint.data.partition import part_name
    from imprint.data.pseudonyms import load_key
    from imprint.data.shards import users_named
    from imprint.personalizers.methods import answering, opened
    from imprint.personalizers.requests import CorpusTerms, answer, read_requests, users_asking
    from imprint.storage import at

    terms = CorpusTerms(corpus, load_key(pseudonym_key, corpus.format), known_names)
    asked = at(respond.requests)
    known = users_named(user_index, users_asking(asked, terms))
    shards = {part_name(user["shard"]) for user in known if user["role"] != "background"} or {shard_names[0]}
    store = opened([memories(name) for name in sorted(shards)])
    requests, refused = read_requests(asked, store, {user["user_id"] for user in known}, terms)
    methods = answering(store, pooled_model, base, memory.fleet)
    return answer(methods, requests, respond.max_new_tokens, bar("respond", "request")), refused
