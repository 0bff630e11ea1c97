"""Texts as vectors: any encoder, and what it reads of an interaction that is too long for it."""

from dataclasses import replace

import pytest
import torch
from toys import WORDS, invented_rows

from imprint.base.examples import Interaction
from imprint.base.settings import FitSettings
from imprint.errors import BaseModelError
from imprint.personalizers.choosers import ByMeaning
from imprint.personalizers.conditioned import asked_of
from imprint.personalizers.embeddings import HistoryEmbeddings
from imprint.personalizers.encoders import text_encoder
from imprint.personalizers.persona_plug import PlugConditioner
from imprint.personalizers.protocol import question_of
from imprint.personalizers.settings import EncoderSettings, PlugSettings, UserLLMSettings
from imprint.personalizers.shared import teach
from imprint.personalizers.soft import SOFT
from imprint.personalizers.texts import shares
from imprint.personalizers.user_llm import UserLLMConditioner
from imprint.tasks import TASKS

BOTH = "{query} {response}"


def save_encoder(folder, tokenizer, seed=0):
    """A BERT of random weights in Hugging Face's own layout."""
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(seed)
    BertModel(BertConfig(vocab_size=len(tokenizer), **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def saved_encoder(tokenizer, tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("bert"), tokenizer)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_any_hugging_face_encoder_by_path_whatever_else_is_in_the_batch(llama, saved_encoder, pooling):
    encoder = text_encoder(llama, EncoderSettings(path=saved_encoder, pooling=pooling))
    texts = ["apple", "river stone cloud green quiet table", ""]

    together = encoder.embed(texts)

    assert together.shape == (3, 16)
    assert torch.allclose(together.norm(dim=1), torch.ones(3))
    for text, vector in zip(texts, together, strict=True):
        assert torch.allclose(encoder.embed([text])[0], vector, atol=1e-6)
    states = encoder.model(torch.tensor([encoder._tokenizer("apple")["input_ids"]])).last_hidden_state[0]
    plain = states.mean(0) if pooling == "mean" else states[0]
    assert torch.allclose(together[0], plain / plain.norm(), atol=1e-6)
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_a_prefix_is_for_queries_alone_and_long_texts_are_cut(llama):
    plain = text_encoder(llama, EncoderSettings(normalise=False))
    prefixed = text_encoder(llama, EncoderSettings(normalise=False, query_prefix="find: ", max_tokens=3))

    assert torch.equal(plain.queries(["apple"]), plain.embed(["apple"]))
    assert torch.equal(prefixed.queries(["x"]), prefixed.embed(["find: x"]))
    assert torch.allclose(prefixed.embed(["apple river stone cloud"]), prefixed.embed(["apple river stone window"]))
    assert plain.fingerprint != prefixed.fingerprint


def test_an_encoder_that_is_not_there_names_the_setting(llama, tmp_path):
    with pytest.raises(BaseModelError, match=r"encoder\.path: .*nowhere"):
        text_encoder(llama, EncoderSettings(path=str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("budget", "wanted", "given"),
    [
        (10, [3, 4], [3, 4]),
        (10, [2, 50], [2, 8]),
        (10, [50, 2], [8, 2]),
        (10, [50, 60], [5, 5]),
        (9, [1, 50, 60], [1, 4, 4]),
        (1, [5, 5], [0, 1]),
        (-3, [5, 0], [0, 0]),
        (5, [], []),
    ],
)
def test_who_wants_little_gets_it_and_the_others_share_the_rest(budget, wanted, given):
    assert shares(budget, wanted) == given


@pytest.mark.parametrize("own", [True, False])
def test_of_an_interaction_too_long_the_longer_side_gives_way(llama, saved_encoder, own):
    long, short = " ".join(WORDS), "green tea"
    encoder = text_encoder(llama, EncoderSettings(path=None if own else saved_encoder, max_tokens=16))

    def kept(query, response, template=BOTH):
        text = encoder.filled(template, query, response)
        assert len(encoder._tokens(text, special=not own)) <= 16
        return text

    assert kept(short, "river") == "green tea river"
    assert kept(long, short).startswith("apple river")
    assert kept(long, short).endswith(" green tea")  # the label, whole
    assert kept(short, long).startswith("green tea apple")  # the title, whole
    assert "apple" in kept(long, long).partition("apple")[2]  # something of either
    assert kept(long, short, "{response}") == short
    assert kept(long, long, "{response}").startswith("apple river stone cloud green quiet")


def tag(place, text, response):
    """A row of LaMP-2, whose instruction alone is longer than many an encoder reads."""
    return Interaction("ann", f"r{place}", TASKS["tag"].query(text=text), response, order=place, task="tag")


MOVIES = [tag(0, "a stone in the garden", "comedy"), tag(1, "winter on a silver river", "comedy")]


def test_a_long_instruction_hides_nothing_of_a_history(llama, tmp_path):
    """Both rows begin with the same words, more of them than the encoder reads."""
    vectors = HistoryEmbeddings(text_encoder(llama, EncoderSettings(max_tokens=24)), None, tmp_path)
    long = tag(2, " ".join(WORDS), "comedy")
    rows = [*MOVIES, long, replace(long, record_id="r3", response="violence")]
    vectors.keep({"ann": rows})

    found = vectors.of("ann")

    assert not torch.allclose(found[0], found[1], atol=1e-3)  # another movie
    assert not torch.allclose(found[2], found[3], atol=1e-3)  # another label
    assert llama.encoder.tokenizer(MOVIES[0].query)["input_ids"][24:]


def test_nor_of_a_question(llama, tmp_path):
    """The soft tokens of two questions to one person, and the movie nearest to each."""
    encoder = EncoderSettings(max_tokens=24)
    fit = FitSettings(learning_rate=1e-3, epochs=1, batch_rows=8)
    plug = PlugConditioner(llama, PlugSettings(encoder=encoder, fit=fit), 1, tmp_path)
    plug.keep({"ann": MOVIES})
    asked = [tag(9, text, "comedy") for text in ("a stone in a garden", "silver winter river")]

    weights = []
    for row in asked:
        with torch.no_grad(), plug.given([asked_of(plug, question_of(row))]):
            weights.append(llama.model.get_input_embeddings()(torch.tensor([[SOFT, SOFT]]))[0, 1])
    nearest = [ByMeaning(1, text_encoder(llama, encoder)).choose(question_of(row), MOVIES) for row in asked]

    assert not torch.allclose(weights[0], weights[1], atol=1e-6)
    assert [one[0].record_id for one in nearest] == ["r0", "r1"]


def test_vectors_are_made_anew_for_another_text_of_the_same_interactions(llama, tmp_path):
    """A file is of a template as much as of rows."""
    rows = {"ann": invented_rows("ann", 3)}
    made = []
    for template in (None, BOTH, "{response}"):
        vectors = HistoryEmbeddings(text_encoder(llama, EncoderSettings()), template, tmp_path)
        vectors.keep(rows)
        made.append(vectors.of("ann"))

    assert torch.equal(made[0], made[2])  # dialogue is known by what was said
    assert not torch.allclose(made[0], made[1], atol=1e-3)


def test_weights_learned_from_one_encoder_are_not_taken_for_those_of_another_in_its_folder(llama, tokenizer, tmp_path):
    """An encoder that is fetched again in a newer version has the same path."""
    fit = FitSettings(learning_rate=1e-3, epochs=1, batch_rows=8)
    teachers, folder = {"tom": invented_rows("tom", 4)}, tmp_path / "bert"
    plugged = PlugSettings(encoder=EncoderSettings(path=str(folder)), augment=0, fit=fit)
    attended = UserLLMSettings(encoder=plugged.encoder, width=16, layers=1, heads=2, pretrain=fit, fit=fit)

    def names():
        plug = PlugConditioner(llama, plugged, 1, tmp_path), "persona_plug", teachers, plugged
        user_llm = UserLLMConditioner(llama, attended, 1, tmp_path), "user_llm", teachers, attended
        return [teach(*one, fit, 1, tmp_path).fingerprint for one in (plug, user_llm)]

    save_encoder(folder, tokenizer)
    first, again = names(), names()
    save_encoder(folder, tokenizer, seed=1)

    assert again == first
    assert not {*names()} & {*first}
