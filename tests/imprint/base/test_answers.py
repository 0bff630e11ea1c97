"""Answers that share their beginnings are as likely as each one alone; what is cut off was not needed."""

import math

import pytest
import torch
from families import every_family
from fleets import windowed_model
from toys import in_use, score_alone

from imprint.base import answers as module
from imprint.base.answers import Answers, AnswerTree, Needed, likelihoods
from imprint.base.examples import Interaction
from imprint.memory.serve import decode

TEXTS = ("apple", "apple river", "apple river stone", "apple stone", "cloud", "green quiet table", "quiet")
QUERIES = ("window music", "", "paper silver garden engine letter winter")
ALL = [[Needed()]] * len(QUERIES)


def prompts(base):
    return [base.encoder.prompt(query)[0] for query in QUERIES]


def alone(base, texts=TEXTS):
    """Each answer after each query as an example of its own."""
    rows = [Interaction("ann", "r", query, text) for query in QUERIES for text in texts]
    found = [-one.nats for one in score_alone(base.model, base.encoder.examples(rows))]
    return torch.tensor(found).view(len(QUERIES), len(texts))


@every_family
def test_each_answer_is_as_likely_as_it_is_alone(base):
    found = likelihoods(base.model, [prompts(base)], Answers(TEXTS).tree(base.encoder), ALL)

    torch.testing.assert_close(found, alone(base), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("base", ["llama", "roberta", "t5"], indirect=True)
@pytest.mark.parametrize("passes", [256, 2])
@pytest.mark.parametrize("slots", [[1, 1, 1], [2, 1], [1, 2]])
def test_prompts_of_several_slots_stay_side_by_side(base, slots, passes, monkeypatch):
    """Slots of unlike numbers of rows are filled up, and what fills them is left behind."""
    monkeypatch.setattr(module, "ROWS", passes)
    asked, rows = prompts(base), []
    for count in slots:
        rows.append([asked.pop(0) for _ in range(count)])
    seen = []

    last = [site.name for site in base.sites if site.target == "up"][-1]
    handle = base.model.get_submodule(last).register_forward_hook(lambda module, args, out: seen.append(len(out)))
    found = likelihoods(base.model, rows, Answers(TEXTS).tree(base.encoder), ALL)
    handle.remove()

    assert seen
    torch.testing.assert_close(found, alone(base), rtol=1e-4, atol=1e-4)
    assert all(count % len(slots) == 0 for count in seen)


@pytest.mark.parametrize("rows", [1, 2, 256])
def test_what_is_not_below_the_floor_is_exact_however_many_rows_a_pass_takes(llama, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS", rows)
    expected = alone(llama)
    floors = expected.median(dim=1).values - 1e-3

    found = likelihoods(
        llama.model,
        [prompts(llama)],
        Answers(TEXTS).tree(llama.encoder),
        [[Needed(floor)] for floor in floors.tolist()],
    )

    needed = expected >= floors[:, None]
    torch.testing.assert_close(found[needed], expected[needed], rtol=1e-4, atol=1e-4)
    rest = found[~needed]
    assert torch.all((rest == -math.inf) | (rest < floors[:, None].expand_as(found)[~needed]))


def test_a_branch_below_the_floor_is_not_read(llama):
    """Nothing is as likely as certain, so only the prompt is read; without a floor every beginning is, once."""
    passes = []
    handle = llama.model.model.register_forward_hook(
        lambda module, args, kwargs, out: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    tree, prompt = Answers(TEXTS).tree(llama.encoder), prompts(llama)[0]
    likelihoods(llama.model, [[prompt]], tree, [[Needed(0.0)]])
    assert passes == [(1, len(prompt))]
    passes.clear()
    likelihoods(llama.model, [[prompt]], tree, [[Needed()]])
    handle.remove()

    assert {rows for rows, _ in passes} == {1}
    assert (
        sum(tokens for _, tokens in passes) == len(prompt) + int((tree.children > 0).sum()) - 1
    )  # the root is no token


@pytest.mark.parametrize("base", ["t5"], indirect=True)
def test_a_family_that_cannot_branch_reads_each_beginning_as_a_row(base):
    """T5 numbers its tokens itself, by their place: two on one place it cannot tell."""
    rows, tree = [], Answers(TEXTS).tree(base.encoder)
    handle = base.model.decoder.register_forward_hook(
        lambda module, args, kwargs, out: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    likelihoods(base.model, [prompts(base)[:1]], tree, [[Needed()]])
    handle.remove()

    assert sum(rows) == int((tree.children > 0).sum())


def test_a_model_with_a_window_reads_each_beginning_as_a_row(tokenizer):
    """A branch would see past the window, which counts tokens back and not up the branch."""
    base = in_use(windowed_model("mistral", len(tokenizer)), tokenizer)

    found = likelihoods(base.model, [prompts(base)], Answers(TEXTS).tree(base.encoder), ALL)

    torch.testing.assert_close(found, alone(base), rtol=1e-4, atol=1e-4)


def test_what_is_just_above_the_floor_is_found(llama):
    """A sure model: after its own first token an answer costs almost nothing more, so the floor is met at each node."""
    llama.model.get_output_embeddings().weight.mul_(400)
    path = tuple(decode(llama, [None], [prompts(llama)[:1]], 3)[0])
    tree = AnswerTree([path, (*path[:-1], 9), (9, 9, 9)])
    (exact,) = likelihoods(llama.model, [prompts(llama)[:1]], tree, [[Needed()]])

    assert exact[0] > -1
    (found,) = likelihoods(llama.model, [prompts(llama)[:1]], tree, [[Needed(exact[0].item() - 1e-3)]])
    assert found[0] == exact[0]


@pytest.mark.parametrize("rows", [1, 3, 256])
@pytest.mark.parametrize("enough", [0, 2, len(TEXTS)])
def test_once_enough_are_likelier_no_others_are_asked_for(base, rows, enough, monkeypatch):
    """Of each prompt by itself: of the first any two above the median, of the second all, of the third none."""
    monkeypatch.setattr(module, "ROWS", rows)
    expected = alone(base)
    ceiling = expected[0].median().item() - 1e-3
    needed = [[Needed(ceiling=ceiling, enough=enough)], [Needed()], [Needed(ceiling=-1000.0, enough=0)]]

    found = likelihoods(base.model, [prompts(base)], Answers(TEXTS).tree(base.encoder), needed)

    known = found > -math.inf
    torch.testing.assert_close(found[known], expected[known], rtol=1e-4, atol=1e-4)
    if not known[0].all():
        assert (found[0] > ceiling).sum() > enough, "left before there were enough"
    assert known[1].all()
    assert known[2].any()
    if rows == 1 and enough == 0:
        assert not known[0].all()
        assert not known[2].all()


def test_who_has_enough_makes_nobody_read_on(llama, monkeypatch):
    """Of two who ask the same, one needs all above a high floor, and the other is content with any one answer."""
    monkeypatch.setattr(module, "ROWS", 1)
    tree, expected = Answers(TEXTS).tree(llama.encoder), alone(llama)[0]
    high = expected.max().item() - 1e-3
    read = []
    handle = llama.model.model.register_forward_hook(lambda *given: read.append(1))

    def passes(*needed):
        read.clear()
        (found,) = likelihoods(llama.model, [prompts(llama)[:1]], tree, [needed])
        return found, len(read)

    strict, deep = Needed(high), Needed(-1000.0, -999.0, 0)
    (found, together), (_, both_floors) = passes(strict, deep), passes(strict, Needed(-1000.0))
    handle.remove()

    assert found.max().item() == pytest.approx(expected.max().item(), abs=1e-4)
    assert together < both_floors


def test_answers_share_nodes_and_those_made_equal_share_their_end():
    tree = AnswerTree([(5, 6, 2), (5, 7, 2), (5, 6, 2), (5, 2)])

    assert len(tree) == 4
    assert len(tree.token) == 7  # the root, 5, 6, 7, and three ends
    assert tree.ends[0] == tree.ends[2]
    assert len(set(tree.ends.tolist())) == 3


def test_an_answer_may_be_the_beginning_of_another(llama):
    tree = AnswerTree([(5,), (5, 6), (7,)])
    found = likelihoods(llama.model, [prompts(llama)[:1]], tree, [[Needed()]])[0]

    logits = llama.model(torch.tensor([prompts(llama)[0]])).logits[0, -1]
    assert found[0].item() == pytest.approx(logits.log_softmax(-1)[5].item(), abs=1e-4)
    assert found[1] < found[0]


def test_a_tree_is_made_once_an_encoder(llama, base):
    answers = Answers(TEXTS)
    assert answers.tree(llama.encoder) is answers.tree(llama.encoder)
    assert answers.places["cloud"] == 4
