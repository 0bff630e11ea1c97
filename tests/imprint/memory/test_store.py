"""The store and the export (invariant 4): what is written is what is read, and nothing else is ever answered."""

import json
import weakref

import pytest
import torch
from families import every_family, logits_of_response
from toys import in_use, invented_rows, tiny_model

from imprint.base.embedded import save_model
from imprint.base.load import load_pretrained
from imprint.data.atomic import MANIFEST, read_manifest
from imprint.errors import CorruptMemoryError, StoreError, UnfinishedStoreError, UnknownUserError
from imprint.memory.config import MemoryConfig
from imprint.memory.peft_format import export_peft
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
from imprint.memory.weights import Memory, remembering

CONFIG = MemoryConfig(
    ranks=(2, 0, 4), targets=("up", "down"), alpha_ratio=4.0, n_memories=3, learning_rate=1e-2, epochs=2
)


@pytest.fixture
def memories(base):
    users = ("u2", "u1", "u3")
    return [
        train_memory(base, user, base.encoder.examples(invented_rows(user, 12)), CONFIG, 1).memory for user in users
    ]


@pytest.fixture
def store(memories, tmp_path):
    write_store(tmp_path / "store", {0: memories[:2], 3: memories[2:]}, {"note": "kept"})
    return MemoryStore(tmp_path / "store")


def test_a_memory_comes_back_as_it_went_in(store, memories):
    assert store.user_ids == ("u1", "u2", "u3")
    for memory in memories:
        loaded = store.load(memory.user_id)
        assert (loaded.config, loaded.base_fingerprint) == (memory.config, memory.base_fingerprint)
        for mine, theirs in zip(loaded.episodes, memory.episodes, strict=True):
            assert (mine.rows, mine.row_fingerprint) == (theirs.rows, theirs.row_fingerprint)
            assert mine.factors.keys() == theirs.factors.keys()
            for site, factors in theirs.factors.items():
                assert torch.equal(mine.factors[site].a, factors.a)
                assert torch.equal(mine.factors[site].b, factors.b)


def test_stores_of_several_shards_are_read_as_one(memories, tmp_path):
    for shard, some in enumerate((memories[:2], memories[2:])):
        write_store(tmp_path / f"store-{shard}", {shard: some}, {})

    store = MemoryStore(tmp_path / "store-1", tmp_path / "store-0")

    assert store.user_ids == ("u1", "u2", "u3")
    assert {user: store.load(user).user_id for user in store.user_ids} == {user: user for user in store.user_ids}
    with pytest.raises(StoreError, match=r"u3 has memories in .*store-1 and in another"):
        MemoryStore(tmp_path / "store-1", tmp_path / "store-0", tmp_path / "store-1")


def test_the_pack_is_a_safetensors_file_and_the_index_counts_its_bytes(store, memories):
    from safetensors.torch import load_file

    tensors = load_file(store.directory / "shard-00000.safetensors")
    assert {name.split("/")[0] for name in tensors} == {"u1", "u2"}
    assert [store.bytes_of(memory.user_id) for memory in memories] == [memory.bytes for memory in memories]
    assert read_manifest(store.directory)["users"] == 3
    assert read_manifest(store.directory)["bytes"] == sum(memory.bytes for memory in memories)


def test_the_packs_tensors_are_the_memories_factors(store, memories):
    """Read by safetensors itself, not by our index."""
    from safetensors.torch import load_file

    tensors = load_file(store.directory / "shard-00000.safetensors")
    for memory in memories[:2]:
        for number, episode in enumerate(memory.episodes):
            for site, factors in episode.factors.items():
                assert torch.equal(tensors.pop(f"{memory.user_id}/{number}/{site}/a"), factors.a)
                assert torch.equal(tensors.pop(f"{memory.user_id}/{number}/{site}/b"), factors.b)
    assert not tensors


def test_a_shard_of_many_users_is_written_with_one_memory_at_hand(memories, tmp_path):
    """Whoever hands the memories over one by one finds those before the last gone."""

    class Watched(Memory):
        """A memory that can be referred to weakly."""

    handed: list[weakref.ref] = []
    still_there = []

    def one_by_one():
        for memory in memories:
            copy = Watched(memory.user_id, memory.base_fingerprint, memory.config, memory.episodes)
            handed.append(weakref.ref(copy))
            yield copy
            del copy
            still_there.append([one for one in handed[:-1] if one() is not None])

    write_store(tmp_path / "store", {0: one_by_one()}, {})

    assert still_there == [[], [], []]


def test_an_unknown_user_is_an_error_with_their_name(store):
    with pytest.raises(UnknownUserError, match="'u4'"):
        store.load("u4")
    assert "u4" not in store


def test_changed_bytes_are_never_used(store):
    pack = store.directory / "shard-00003.safetensors"
    content = bytearray(pack.read_bytes())
    content[-5] ^= 1
    pack.write_bytes(content)

    with pytest.raises(CorruptMemoryError, match="u3"):
        store.load("u3")
    store.load("u1")


def test_an_index_that_was_changed_is_not_followed_to_a_neighbours_memory(store):
    """Two users' rows swapped: bytes and sha256 fit each other, and still nobody is answered by the other."""
    import pyarrow.parquet as pq

    file = store.directory / "shard-00000.index.parquet"
    table = pq.read_table(file)
    swapped = {"u1": "u2", "u2": "u1"}
    users = [swapped[user] for user in table.column("user_id").to_pylist()]
    pq.write_table(table.set_column(0, "user_id", [users]), file)

    with pytest.raises(CorruptMemoryError, match="somebody else"):
        MemoryStore(store.directory)


def test_a_stray_index_is_not_read(store):
    (store.directory / "shard-00007.index.parquet").write_bytes(b"not listed in the manifest")

    assert MemoryStore(store.directory).user_ids == ("u1", "u2", "u3")


def test_a_store_without_its_manifest_is_not_read(store):
    (store.directory / MANIFEST).unlink()

    with pytest.raises(UnfinishedStoreError, match="inject"):
        MemoryStore(store.directory)


def test_a_writer_that_dies_leaves_no_store(memories, tmp_path):
    def dying():
        yield memories[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "store", {0: memories[1:], 1: dying()}, {})

    assert list(tmp_path.iterdir()) == []


def logits(model, rows, encoder):
    with torch.no_grad():
        return [logits_of_response(model, example) for example in encoder.examples(rows)]


@every_family
def test_an_exported_memory_loads_in_peft_with_equal_logits(base, memories, tmp_path):
    """All three episodes, different ranks by layer, as one LoRA that PEFT itself reads."""
    from peft import PeftModel

    save_model(base.model, base.encoder.tokenizer, tmp_path / "base")
    rows = invented_rows("u1", 5)
    export_peft(memories[1], base.sites, str(tmp_path / "base"), tmp_path / "exported")

    served = PeftModel.from_pretrained(load_pretrained(str(tmp_path / "base"))[0], tmp_path / "exported")

    plain = logits(base.model, rows, base.encoder)
    with remembering(base, memories[1]):
        ours = logits(base.model, rows, base.encoder)
    for mine, theirs, without in zip(ours, logits(served, rows, base.encoder), plain, strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(theirs, without, atol=1e-3)


def test_an_export_with_another_scale_would_be_noticed(llama, tokenizer, tmp_path):
    """The bad example of the test above: lora_alpha that forgets the number of episodes."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    rows = invented_rows("u1", 3)
    memory = train_memory(llama, "u1", llama.encoder.examples(invented_rows("u1", 12)), CONFIG, 1).memory
    save_model(tiny_model("llama", tokenizer), tokenizer, tmp_path / "base")
    export_peft(memory, llama.sites, str(tmp_path / "base"), tmp_path / "exported")
    file = tmp_path / "exported" / "adapter_config.json"
    config = json.loads(file.read_text())
    config["alpha_pattern"] = {name: alpha / 3 for name, alpha in config["alpha_pattern"].items()}
    file.write_text(json.dumps(config))

    served = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "exported")

    with remembering(llama, memory):
        ours = logits(llama.model, rows, llama.encoder)
    assert not any(
        torch.allclose(mine, theirs, rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(ours, logits(served, rows, llama.encoder), strict=True)
    )


def test_a_store_exports_a_user_by_id_with_a_manifest_and_pefts_file_names(llama, tmp_path):
    memory = train_memory(llama, "u1", llama.encoder.examples(invented_rows("u1", 12)), CONFIG, 1).memory
    write_store(tmp_path / "store", {0: [memory]}, {})
    MemoryStore(tmp_path / "store").export_peft("u1", tmp_path / "exported", llama)

    assert {"adapter_config.json", "adapter_model.safetensors"} <= {
        file.name for file in (tmp_path / "exported").iterdir()
    }
    manifest = read_manifest(tmp_path / "exported")
    assert manifest["base_fingerprint"] == llama.record.fingerprint
    with pytest.raises(UnknownUserError):
        MemoryStore(tmp_path / "store").export_peft("u2", tmp_path / "other", llama)


def test_a_store_of_one_base_is_refused_by_another(store, base, tokenizer):
    from imprint.errors import IncompatibleBaseError

    other = in_use(tiny_model(base.record.family, tokenizer, seed=4), tokenizer)
    with pytest.raises(IncompatibleBaseError), remembering(other, store.load("u1")):
        pass
