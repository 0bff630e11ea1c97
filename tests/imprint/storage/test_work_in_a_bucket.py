"""Workspaces in a bucket: work that one pod began, another goes on with; and no pod has more than it asked for."""

import json
from pathlib import Path

import pytest
import torch
from buckets import another_pod, here, objects, put
from toys import invented_rows

from imprint.base.checkpoint import Checkpoint, Done
from imprint.base.embedded import save_model
from imprint.base.load import fingerprint_of_model, keep, load_pretrained, recorded
from imprint.corpora import CorpusSettings, open_corpus
from imprint.errors import CorpusError, CorruptMemoryError
from imprint.memory import training
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History, train_memories
from imprint.memory.settings import FleetSettings, MemorySettings
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
from imprint.memory.weights import Episode, Factors, Memory
from imprint.personalizers.embeddings import HistoryEmbeddings
from imprint.personalizers.encoders import text_encoder
from imprint.personalizers.settings import EncoderSettings
from imprint.provenance import fingerprint
from imprint.search.journal import Journal, Trial
from imprint.storage import at

CONFIG = MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=5e-3, epochs=1)
USERS = ("u1", "u2", "u3", "u4", "u5")


def trial(tid, study="tpe"):
    return Trial(study=study, tid=tid, values={"rank": [tid]}, config=None, status="ok", objective_value=float(tid))


def test_a_search_goes_on_in_another_pod(bucket):
    journal = Journal(at(bucket) / "search" / "population.jsonl")
    for tid in range(2):
        journal.add(trial(tid))
        journal.add(trial(tid, "random"))
        journal.end_round()
    journal.add(trial(2))  # the pod is killed before the round's end
    another_pod()
    journal = Journal(at(bucket) / "search" / "population.jsonl")
    assert [one.tid for one in journal.of("tpe")] == [0, 1]
    journal.add(trial(2))
    journal.end_round()
    another_pod()
    assert [one.tid for one in Journal(at(bucket) / "search" / "population.jsonl").of("tpe")] == [0, 1, 2]


def test_a_training_goes_on_in_another_pod(bucket, monkeypatch):
    monkeypatch.setattr("imprint.base.checkpoint.EVERY_SECONDS", 0.0)

    def weights():
        torch.manual_seed(1)
        weight = torch.nn.Parameter(torch.randn(3))
        return [weight], torch.optim.AdamW([weight])

    (weight,), optimiser = weights()
    weight.sum().backward()
    optimiser.step()
    Checkpoint(at(bucket) / "base.checkpoint").keep_if_due([weight], optimiser, Done(1, 9, 0.5, [torch.tensor(2.0)]))
    another_pod()
    checkpoint, ((again,), optimiser) = Checkpoint(at(bucket) / "base.checkpoint"), weights()
    done = checkpoint.restore([again], optimiser)
    assert (done.steps, done.tokens) == (1, 9)
    assert torch.equal(again, weight)
    checkpoint.remove()
    assert objects(bucket) == {}
    assert checkpoint.restore([again], optimiser) == Done()


def inject(base, workspace):
    histories = [
        History(user, number % 2, fingerprint([user]), base.encoder.examples(invented_rows(user, 8)))
        for number, user in enumerate(USERS)
    ]
    memory = MemorySettings(fixed_config=CONFIG, trainer="one_user", fleet=FleetSettings(crew=2))
    return train_memories(base, histories, dict.fromkeys(USERS, CONFIG), 1, memory, workspace, {"tid": 1})


def test_injection_goes_on_in_another_pod_and_ends_with_the_same_bytes(llama, bucket, tmp_path, monkeypatch):
    whole = inject(llama, tmp_path)
    trained = []

    def killed_at_the_fourth(base, user_id, *arguments):
        trained.append(user_id)
        if len(trained) == 4:
            raise KeyboardInterrupt
        return train_memory(base, user_id, *arguments)

    monkeypatch.setattr(training, "train_memory", killed_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        inject(llama, at(bucket))
    another_pod()
    record = inject(llama, at(bucket))

    assert trained == ["u1", "u2", "u3", "u4", "u3", "u4", "u5"]
    assert record.path == f"{bucket}/memories-{record.fingerprint}"
    made = {name.rpartition("/")[2]: content for name, content in objects(bucket).items()}
    for shard in range(2):
        name = f"shard-{shard:05d}.safetensors"
        assert made[name] == (Path(whole.path) / name).read_bytes()
    assert not any(".parts" in name or name.endswith(".tmp") for name in objects(bucket))
    another_pod()
    assert inject(llama, at(bucket)) == record, "what is there is not trained again"
    assert len(trained) == 7


def drawn_memory(user_id, seed):
    draw = torch.Generator().manual_seed(seed)
    factors = Factors(torch.randn(2, 6, generator=draw), torch.randn(4, 2, generator=draw))
    return Memory(user_id, "base", CONFIG, (Episode(3, f"rows of {user_id}", 1, {"layers.0.down": factors}),))


@pytest.fixture
def stored(bucket):
    """A store of two shards that another pod wrote, and its memories."""
    memories = [drawn_memory(user, number) for number, user in enumerate(("u1", "u2", "u3"))]
    write_store(at(bucket) / "store", {0: memories[:2], 1: memories[2:]}, {})
    another_pod()
    return f"{bucket}/store", {memory.user_id: memory for memory in memories}


def test_a_pod_reads_the_memories_it_asks_for_and_downloads_no_pack(stored):
    url, memories = stored
    store = MemoryStore(at(url))
    loaded = store.load("u3")
    assert store.user_ids == ("u1", "u2", "u3")
    for mine, theirs in zip(loaded.episodes, memories["u3"].episodes, strict=True):
        assert all(torch.equal(mine.factors[site].a, theirs.factors[site].a) for site in theirs.factors)
    assert here() == ["manifest.json", "shard-00000.index.parquet", "shard-00001.index.parquet"]


def test_bytes_that_changed_in_the_bucket_are_never_used(stored):
    url, _ = stored
    store = MemoryStore(at(url))
    (pack,) = (name for name in objects(url) if name.endswith("shard-00001.safetensors"))
    content = objects(url)[pack]
    put(f"{url}/{pack}", content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CorruptMemoryError, match="u3"):
        store.load("u3")


def test_embeddings_are_computed_by_one_pod_and_forgotten_by_all(llama, bucket, monkeypatch):
    computed, rows = [], invented_rows("u1", 3)
    encoder = text_encoder(llama, EncoderSettings())
    embed = encoder.embed
    monkeypatch.setattr(encoder, "embed", lambda texts: computed.append(len(texts)) or embed(texts))
    for _ in range(2):
        another_pod()
        HistoryEmbeddings(encoder, "{response}", at(bucket)).keep({"u1": rows})
    assert computed == [3]
    HistoryEmbeddings(encoder, "{response}", at(bucket)).forget("u1")
    assert objects(bucket) == {}


def test_a_base_of_ours_and_one_that_somebody_put_there_are_loaded_by_their_url(llama, tokenizer, bucket, tmp_path):
    manifest = keep(llama.model, tokenizer, at(bucket) / "base-1", {})
    save_model(llama.model, tokenizer, tmp_path / "theirs")
    for file in (tmp_path / "theirs").iterdir():
        put(f"{bucket}/theirs/{file.name}", file)
    another_pod()
    assert recorded(manifest, at(bucket) / "base-1").path == manifest["record"]["path"] == f"{bucket}/base-1"
    for url in (f"{bucket}/base-1", f"{bucket}/theirs"):
        assert fingerprint_of_model(*load_pretrained(url)) == llama.record.fingerprint


def test_a_corpus_is_read_from_a_bucket_file_or_folder(bucket):
    line = json.dumps({"user_id": "ann", "query": "?", "response": "yes"}).encode() + b"\n"
    put(f"{bucket}/raw/corpus.jsonl", line * 2)
    another_pod()
    corpus = open_corpus(CorpusSettings(format="jsonl", path=f"{bucket}/raw/corpus.jsonl"))
    assert sum(batch.num_rows for batch in corpus.batches()) == 2
    with pytest.raises(CorpusError, match=rf"{bucket}/raw/none\.jsonl"):
        open_corpus(CorpusSettings(format="jsonl", path=f"{bucket}/raw/none.jsonl"))
    with pytest.raises(CorpusError, match="is a folder"):
        open_corpus(CorpusSettings(format="jsonl", path=f"{bucket}/raw"))
