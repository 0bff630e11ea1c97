"""No method sees a later interaction, its own response or its company; cheats that do are caught."""

from dataclasses import replace

import methods
import pytest
from toys import invented_rows

from imprint.base.examples import Interaction
from imprint.errors import StoreError, UnknownUserError
from imprint.memory.config import MemoryConfig
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
from imprint.personalizers.past import Past
from imprint.personalizers.protocol import Question, question_of
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.unpersonalised import Unpersonalised

CONFIG = MemoryConfig(ranks=(8,), targets=("up", "down"), alpha_ratio=4.0, n_memories=2, learning_rate=1e-2, epochs=2)


class LastWords:
    """An honest toy: the model is shown what the user said last before the question."""

    def __init__(self, base, past=Past):
        self.past = past("last words")
        self.model = Unpersonalised("base", base, 2)

    def fit(self, histories):
        self.past.keep(histories)

    def score(self, rows):
        return self.model.score([replace(row, query=self.query(question_of(row))) for row in rows])

    def respond(self, questions, max_new_tokens):
        return self.model.respond([Question(one.user_id, self.query(one)) for one in questions], max_new_tokens)

    def forget(self, user_id):
        self.past.forget(user_id)
        return ()

    def query(self, question):
        return " ".join([*(row.response for row in self.past.before(question)[-1:]), question.query])


class Peeking(LastWords):
    """A cheat: the end of the response that is to be scored stands in the query."""

    def score(self, rows):
        return self.model.score([replace(row, query=row.response[-12:]) for row in rows])


class Copying(LastWords):
    """A cheat: it uses what its neighbours in the batch were asked."""

    def score(self, rows):
        return self.model.score([replace(row, query=rows[-1].query) for row in rows])


class Elephant(LastWords):
    """A cheat: it never forgets."""

    def forget(self, user_id):
        return ()


def test_an_honest_method_breaches_nothing(llama):
    def make():
        return LastWords(llama)

    assert not methods.sees_the_future(make)
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


def test_cheats_are_caught(llama):
    assert methods.sees_the_future(lambda: LastWords(llama, methods.Clairvoyant))
    assert methods.sees_its_response(lambda: Peeking(llama))
    assert methods.sees_its_company(lambda: Copying(llama))
    assert not methods.forgets(lambda: Elephant(llama))


def test_the_past_of_a_question_ends_where_the_question_stands():
    rows = invented_rows("ann", 5)
    past = Past("toy")
    past.keep({"ann": rows[::-1], "bob": []})

    assert past.before(Question("ann", "q", 3)) == rows[:3]
    assert past.before(question_of(rows[0])) == []
    assert past.before(Question("ann", "q")) == rows
    assert past.before(Question("bob", "q", 7)) == []
    past.keep({"ann": rows[:1]})
    assert past.before(Question("ann", "q")) == rows[:1]
    with pytest.raises(UnknownUserError, match=r"'eve' .* method toy"):
        past.before(Question("eve", "q"))


@pytest.fixture
def remembered(llama, tmp_path):
    def train(user, rows):
        return train_memory(llama, user, llama.encoder.examples(rows), CONFIG, 1).memory

    write_store(tmp_path / "store", {0: [train(*one) for one in methods.histories().items()]}, {})
    return lambda: Remembered("memory", llama, MemoryStore(tmp_path / "store"), 2)


def test_memories_breach_nothing(remembered):
    assert not methods.sees_its_response(remembered)
    assert not methods.sees_its_company(remembered)
    assert methods.forgets(remembered)


def test_what_is_left_of_a_user_is_named(remembered):
    method = remembered()
    kept, tried = method.forget("ann")
    assert "until rewritten" in kept
    assert "tried-memories-*/ann" in tried, "also of searches that this store's memories did not come from"
    assert method.forget("ann") == method.forget("eve") == ()


def test_a_memory_trained_on_other_rows_than_it_is_fitted_on_is_refused(remembered):
    """What `sees_the_future` is to methods that look back: a memory that was trained on a test row is not used."""
    method = remembered()
    method.fit(methods.histories())
    shorter = {"ann": methods.histories()["ann"][:-1]}

    with pytest.raises(StoreError, match="not trained on the 9 interactions"):
        method.fit(shorter)
    with pytest.raises(UnknownUserError):
        method.fit({"eve": [Interaction("eve", "r", "apple", "river")]})


def test_traces_that_may_be_left_are_named(llama, remembered):
    trained = replace(llama, record=llama.record.model_copy(update={"training": {"rows": 9}}))
    method = remembered()

    assert Unpersonalised("base", llama, 2).forget("ann") == ()
    assert "trained on the corpus" in Unpersonalised("pooled", trained, 2).forget("ann")[0]
    assert "until rewritten" in method.forget("ann")[0]
    assert method.forget("ann") == method.forget("eve") == ()
