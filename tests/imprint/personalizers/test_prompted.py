"""History before the query: which interactions, in which form, within which budget, and nothing else."""

from dataclasses import replace

import methods
import pytest
from toys import WORDS, in_use, invented_rows, score_alone, tiny_model

from imprint.base.examples import Interaction
from imprint.base.load import BaseModelInUse, positions_beside
from imprint.errors import SettingsError
from imprint.memory.config import MemoryConfig
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
from imprint.memory.weights import remembering
from imprint.personalizers.choosers import ByMeaning, ByWords, Latest, retriever
from imprint.personalizers.encoders import text_encoder
from imprint.personalizers.prompted import Prompted
from imprint.personalizers.prompts import LEAST, Prompts
from imprint.personalizers.protocol import Question, question_of
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.settings import EncoderSettings, RetrievalSettings
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.tasks import TASKS

CONFIG = MemoryConfig(ranks=(8,), targets=("up", "down"), alpha_ratio=4.0, n_memories=1, learning_rate=1e-2, epochs=3)
DENSE = RetrievalSettings(by="dense", items=2)


def recent(base):
    return Prompted("recent_history", Unpersonalised("pooled", base, 2), Latest(), 30)


def by_words(base):
    return Prompted("retrieval", Unpersonalised("pooled", base, 2), ByWords(3), 30)


def by_meaning(base):
    return Prompted("retrieval", Unpersonalised("pooled", base, 2), retriever(base, DENSE), 30)


def quoted(base):
    return Prompted("retrieval", Unpersonalised("pooled", base, 2), ByWords(3), 60, "quoted")


@pytest.mark.parametrize("made", [recent, by_words, by_meaning, quoted])
def test_no_breach(base, made):
    def make():
        return made(base)

    assert not methods.sees_the_future(make)
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


@pytest.mark.parametrize("made", [recent, by_words, by_meaning, quoted])
def test_history_changes_the_answer(llama, made):
    """Otherwise the test above would praise methods that show nothing."""
    method, rows = made(llama), methods.asked_rows()
    method.fit(methods.histories())

    assert not methods.same(methods.answers(method, rows), methods.answers(Unpersonalised("pooled", llama, 2), rows))


def test_the_prompt_is_turns_in_the_bases_own_form(llama):
    """What is scored is the example with turns before it, one of them alone being what `Encoder.example` makes."""
    rows = invented_rows("ann", 3)
    encoder, eos = llama.encoder, llama.encoder.tokenizer.eos_token_id

    example = Prompts(llama, 200).example(rows[2], rows[:2])

    turns = [text for row in rows for text in (row.query, row.response)]
    ids = [encoder.tokenizer.bos_token_id]
    for text in turns:
        ids += [*encoder.tokenizer(text)["input_ids"], eos]
    assert example.input_ids == tuple(ids)
    assert example.input_ids[example.response_start :] == encoder.example(rows[2]).input_ids[-example.response_tokens :]
    assert not example.truncated
    assert Prompts(llama, 200).prompt(question_of(rows[2]), rows[:2]) == example.input_ids[: example.response_start]


def turn(base, row):
    return base.encoder.example(row).input_ids[1:]


def test_interactions_share_the_budget_and_the_query_is_never_cut_for_them(llama):
    rows = [one("ann", place, WORDS[: 4 + place], WORDS[:9]) for place in range(9)]
    whole = [turn(llama, row) for row in rows[:-1]]
    for budget in (1, 7, 40, 70, 101, 140):
        example = Prompts(llama, budget).example(rows[-1], rows[:-1])
        plain = llama.encoder.example(rows[-1])
        shown = example.input_ids[1 : len(example.input_ids) - len(plain.input_ids) + 1]
        assert example.input_ids == (plain.input_ids[0], *shown, *plain.input_ids[1:])
        assert len(shown) <= budget
        assert example.truncated
        assert budget == 1 or shown.count(llama.encoder.tokenizer.eos_token_id) >= 2 * max(1, budget // LEAST)
    assert Prompts(llama, 9).example(rows[0], []) == llama.encoder.example(rows[0])
    everything = tuple(token for one in whole for token in one)
    assert Prompts(llama, len(everything)).history(rows[:-1]) == (everything, False)


def one(user, place, query, response, task="dialogue"):
    return Interaction(user, f"r{place}", " ".join(query), " ".join(response), order=place, task=task)


def test_a_long_turn_gives_way_and_a_short_one_beside_it_does_not(llama):
    """Its query keeps its end and its response its beginning, the shorter of the two all of itself."""
    long, short = one("ann", 0, WORDS * 2, WORDS[:12]), one("ann", 1, ["green", "tea"], ["stone"])
    whole, beside = turn(llama, long), turn(llama, short)

    ids, cut = Prompts(llama, 40).history([long, short])

    assert cut
    assert ids == (*whole[len(whole) + len(beside) - 40 :], *beside)


def rated(place, text, score):
    return Interaction("ann", f"r{place}", TASKS["rating"].query(text=text), score, order=place, task="rating")


def test_quoted_interactions_stand_in_the_query_as_in_lamps_prompts(llama):
    """Every label is kept, whatever becomes of the texts; the response that is scored is as it was."""
    rows = [rated(0, "green tea", "5"), rated(1, "a river", "1"), rated(2, "music", "3")]
    quoting = '5 is the score for "green tea", and 1 is the score for "a river". '
    encoder = replace(llama.encoder, max_query_tokens=250)
    prompts = Prompts(replace(llama, encoder=encoder), 100, "quoted")

    example = prompts.example(rows[2], rows[:2])

    expected = replace(encoder, max_query_tokens=999).example(replace(rows[2], query=quoting + rows[2].query))
    assert example == replace(expected, truncated=False)
    assert prompts.prompt(question_of(rows[2]), rows[:2]) == example.input_ids[: example.response_start]
    assert prompts.example(rows[2], []) == encoder.example(rows[2])
    long = [rated(0, " ".join(WORDS * 3), "4"), rated(1, " ".join(WORDS * 3), "2"), rows[1]]
    short = Prompts(replace(llama, encoder=encoder), 110, "quoted").example(rows[2], long)
    text = encoder.tokenizer.decode(short.input_ids)
    assert short.truncated
    for quote in ('4 is the score for "apple river', '2 is the score for "apple river', '1 is the score for "a river"'):
        assert quote in text
    assert len(short.input_ids) <= len(encoder.example(rows[2]).input_ids) + 110


def test_of_a_long_query_quoted_prompts_hold_what_all_other_methods_read(llama):
    """Else methods would be compared on different questions: the instruction here, the review there."""
    encoder = replace(llama.encoder, max_query_tokens=30)
    asked, shown = rated(1, " ".join(WORDS * 2), "2"), rated(0, "green tea", "5")

    example = Prompts(replace(llama, encoder=encoder), 100, "quoted").example(asked, [shown])

    plain, text = encoder.example(asked), encoder.tokenizer.decode(example.input_ids)
    assert plain.truncated
    assert example.truncated
    assert encoder.tokenizer.decode(plain.input_ids[1:]).lstrip("\ufffd") in text
    assert '5 is the score for "green tea"' in text


def test_learned_positions_bound_the_budget_and_rotary_ones_do_not(tokenizer):
    gpt2, llama = (in_use(tiny_model(family, tokenizer), tokenizer) for family in ("gpt2", "llama"))
    assert positions_beside(gpt2.model, gpt2.encoder) == 128 - 24 - 24 - 3
    assert positions_beside(llama.model, llama.encoder) is None
    Prompts(gpt2, 77)
    with pytest.raises(SettingsError, match=r"budget_tokens: 78 .* positions for 77"):
        Prompts(gpt2, 78)


def row(place, query, response):
    return Interaction("ann", f"r{place}", query, response, order=place)


ROWS = [
    row(0, "green tea", "river"),
    row(1, "music", "the green window"),
    row(2, "", ""),
    row(3, "paper engine", "green green paper"),
    row(4, "cloud", "music"),
]


def test_bm25_puts_the_best_match_last_and_rare_words_before_common_ones():
    def chosen(query, items):
        return [one.record_id for one in ByWords(items).choose(Question("ann", query), ROWS)]

    assert chosen("PAPER!", 1) == ["r3"]
    assert chosen("tea green", 1) == ["r0"]  # "tea" is rarer than "green"
    assert chosen("music", 2)[-1] in ("r1", "r4")
    assert set(chosen("music", 2)) == {"r1", "r4"}
    assert chosen("nowhere", 2) == chosen("", 2) == ["r3", "r4"]  # nothing matches: the latest
    assert len(chosen("green", 9)) == len(ROWS)
    assert ByWords(2).choose(Question("ann", "green"), []) == []
    assert ByWords(2).choose(Question("ann", "green"), ROWS[2:3]) == ROWS[2:3]


@pytest.mark.parametrize(("task", "found"), [("tag", "r0"), ("stars", "r0"), ("headline", "r1"), ("dialogue", "r1")])
def test_a_label_is_no_word_of_what_an_interaction_was_about(task, found):
    """LaMP searches the described movie and the reviewed text, and the whole of what has a text for an answer."""
    asked = TASKS[task]
    rows = [
        Interaction("ann", "r0", asked.query(text="a classic river of stones"), "green", order=0, task=task),
        Interaction("ann", "r1", asked.query(text="music"), "classic classic", order=1, task=task),
    ]
    question = Question("ann", asked.query(text="classic"), task=task)

    assert ByWords(1).choose(question, rows)[0].record_id == found


@pytest.mark.parametrize("kind", ["words", "meaning"])
def test_a_query_that_every_interaction_shares_finds_the_latest(llama, kind):
    """BM25 would rank the responses by their lengths, and vectors by what no query asked for."""
    chooser = ByWords(2) if kind == "words" else retriever(llama, DENSE)
    query = TASKS["next_item"].query(text="movie")
    rows = [one("ann", place, [query], WORDS[: 1 + place % 3], "next_item") for place in range(7)]

    assert chooser.choose(question_of(rows[6]), rows[:6]) == rows[4:6]
    other = replace(rows[0], query=TASKS["next_item"].query(text="book"))
    assert other in ByWords(2).choose(Question("ann", other.query, 9, "next_item"), [*rows[1:], other, *rows[1:4]])


def test_an_index_is_of_what_precedes_the_question_and_of_the_last_fit(llama):
    chooser = ByWords(1)
    assert chooser.choose(Question("ann", "green paper"), ROWS)[0].record_id == "r3"
    assert chooser.choose(Question("ann", "green paper"), ROWS[:2])[0].record_id in ("r0", "r1")
    assert chooser.choose(Question("ann", "green paper"), ROWS)[0].record_id == "r3"
    method = Prompted("retrieval", Unpersonalised("pooled", llama, 2), ByWords(1), 30)
    asked = Interaction("ann", "r9", "apple", "stone", order=9)
    method.fit({"ann": [row(0, "apple", "river"), row(1, "cloud", "music")]})
    method.score([asked])
    method.fit({"ann": [row(0, "cloud", "music"), row(1, "apple", "silver")]})
    fresh = Prompted("retrieval", Unpersonalised("pooled", llama, 2), ByWords(1), 30)
    fresh.fit({"ann": [row(0, "cloud", "music"), row(1, "apple", "silver")]})
    assert method.score([asked]) == fresh.score([asked])


def test_dense_retrieval_takes_the_nearest_vectors(llama):
    encoder = text_encoder(llama, EncoderSettings())
    chosen = ByMeaning(2, encoder).choose(Question("ann", "green tea"), ROWS)

    vectors = encoder.embed([f"{one.query} {one.response}" for one in ROWS])
    nearness = vectors @ encoder.embed(["green tea"])[0]
    assert [one.record_id for one in chosen] == [f"r{place}" for place in nearness.argsort()[-2:].tolist()]
    assert ByMeaning(2, encoder).choose(Question("ann", "green tea"), []) == []


def test_memory_and_retrieval_is_the_users_memory_with_history_before_the_query(llama, tmp_path):
    memories = {
        user: train_memory(llama, user, llama.encoder.examples(rows), CONFIG, 1).memory
        for user, rows in methods.histories().items()
    }
    write_store(tmp_path / "store", {0: list(memories.values())}, {})
    store = MemoryStore(tmp_path / "store")

    def make() -> Prompted:
        return Prompted("memory+retrieval", Remembered("memory", llama, store, 2), ByWords(2), 30)

    method, rows = make(), methods.asked_rows(2)
    method.fit(methods.histories())
    scored = method.score(rows)

    for user, past in methods.histories().items():
        mine = [place for place, one in enumerate(rows) if one.user_id == user]
        shown = [ByWords(2).choose(question_of(rows[place]), past) for place in mine]
        examples = [Prompts(llama, 30).example(rows[place], some) for place, some in zip(mine, shown, strict=True)]
        with remembering(llama, memories[user]):
            alone = score_alone(llama.model, examples)
        assert [scored[place].nats for place in mine] == pytest.approx([one.nats for one in alone], rel=1e-5)
    assert not methods.sees_its_response(make)
    assert not methods.sees_its_company(make)
    assert methods.forgets(make)


def test_a_cheat_that_retrieves_from_everything_is_caught(llama):
    class FromEverything(ByWords):
        def choose(self, question, earlier):
            self.everything = [*getattr(self, "everything", []), *earlier]
            return super().choose(question, self.everything)

    def make() -> Prompted:
        return Prompted("retrieval", Unpersonalised("pooled", llama, 2), FromEverything(3), 30)

    assert methods.sees_its_company(make)


def test_an_empty_history_is_no_history(llama: BaseModelInUse):
    rows = [replace(one, user_id="eve") for one in methods.asked_rows(1)]
    method = by_words(llama)
    method.fit({"eve": []})

    assert methods.same(methods.answers(method, rows), methods.answers(Unpersonalised("pooled", llama, 2), rows))
