"""Vectors of histories: what they cost is known to whoever finds them made."""

import methods
import pytest
from safetensors import safe_open

from imprint.personalizers.embeddings import HistoryEmbeddings
from imprint.personalizers.encoders import text_encoder
from imprint.personalizers.settings import EncoderSettings


def test_what_encoding_took_is_known_to_whoever_finds_it_done(llama, tmp_path):
    """Else the second method that reads the same vectors would look cheaper than the first."""
    known = methods.histories()

    def keep(*users):
        kept = HistoryEmbeddings(text_encoder(llama, EncoderSettings()), None, tmp_path)
        return kept.keep({user: known[user] for user in users})

    assert keep("ann", "bob") == 0
    took = {}
    for file in tmp_path.glob("histories-*/*.safetensors"):
        with safe_open(file, framework="pt") as vectors:
            took[file.stem] = float(vectors.metadata()["seconds"])
    assert took.keys() == {"ann", "bob"}
    assert min(took.values()) > 0
    assert keep("ann", "bob", "cleo") == pytest.approx(sum(took.values()))
