"""Judges: a likelihood, a model, an endpoint that is a real server; order swapped, ties counted."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from pydantic import ValidationError
from toys import invented_rows, score_alone

from imprint.base.examples import Interaction
from imprint.errors import JudgeError, SettingsError
from imprint.evaluate.judges import (
    EndpointJudge,
    LikelihoodJudge,
    ModelJudge,
    Pair,
    judge_of,
    letter_of,
    named,
    wording_of,
)
from imprint.evaluate.settings import JudgeSettings
from imprint.evaluate.wins import judged, preferred, require_opponent, wins
from imprint.personalizers.prompts import Prompts

PAST = invented_rows("ann", 6)


def pair(first, second, record="r1"):
    return Pair(record, PAST, "how are you?", first, second)


class Liker:
    """A judge who prefers a word, or, asked in two orders, whatever stands first."""

    def __init__(self, word, looks_at_order=True):
        self.word, self.looks_at_order, self.asked = word, looks_at_order, []

    def prefers(self, pairs):
        self.asked.append(list(pairs))
        return [float(one.first == self.word or self.word is None) for one in pairs]


def test_a_judge_is_asked_in_both_orders_and_a_contradiction_is_a_tie():
    pairs = [pair("tea", "milk"), pair("milk", "tea")]
    liker, first = Liker("tea"), Liker(None)

    assert preferred(liker, pairs) == [1, 0]
    assert preferred(first, pairs) == [0.5, 0.5]
    assert [(one.first, one.second) for one in liker.asked[1]] == [("milk", "tea"), ("tea", "milk")]
    assert preferred(Liker(None, looks_at_order=False), pairs) == [1, 1]
    assert preferred(liker, []) == []


def response(method, text, record="r1", task="dialogue", reference="fine"):
    about = {"user_id": "ann", "record_id": record, "task": task, "query": "how are you?"}
    return {"method": method, **about, "reference": reference, "response": text}


def test_responses_are_held_against_the_opponents_to_the_same_query():
    liker = Liker("tea")
    rows = [
        response("base", "milk", reference="tea"),
        response("memory", "tea"),
        response("pooled", "milk"),
        response("base", "tea", "r2", reference="tea"),
        response("memory", "milk", "r2"),
        response("memory", "tea", "r3"),  # the opponent gave no response to it
        response("base", "1", "r4", task="rating"),
        response("memory", "tea", "r4", task="rating"),
    ]

    found = judged(rows, {"ann": PAST}, liker, JudgeSettings(rows_per_user=9))

    assert [row["won"] for row in found] == [None, 1, 0.5, None, 0, None, None, None]
    assert [row["own_won"] for row in found] == [1, None, None, None, None, None, None, None]
    assert len(liker.asked[0]) == 3  # equal responses were not asked about
    assert wins(found) == {
        "base": {"own_words_rate": {"ann": 1.0}},
        "memory": {"win_rate": {"ann": 0.5}, "tie_rate": {"ann": 0.0}},
        "pooled": {"win_rate": {"ann": 0.5}, "tie_rate": {"ann": 1.0}},
    }


def test_only_so_many_responses_of_a_user_are_judged_the_same_for_every_method():
    rows = [
        response(name, text, f"r{place}") for place in range(6) for name, text in (("base", "a"), ("memory", "tea"))
    ]
    found = judged(rows, {"ann": PAST}, Liker("tea"), JudgeSettings(rows_per_user=2))
    assert [row["record_id"] for row in found if row["won"] is not None] == ["r1", "r4"]


def test_the_likelihood_judges_by_what_the_history_adds(llama):
    """Each gain computed here, alone: nats saved by the history, per token."""
    judge, prompts, texts = LikelihoodJudge(llama, 2, 40), Prompts(llama, 40), ("apple", "stone river", "")

    def gain(text):
        row = Interaction("", "r", "how are you?", text)
        known, alone = score_alone(llama.model, [prompts.example(row, shown) for shown in (PAST, ())])
        return (alone.nats - known.nats) / known.tokens

    pairs = [pair(first, second) for first in texts for second in texts]
    expected = [0.5 if one.first == one.second else float(gain(one.first) > gain(one.second)) for one in pairs]
    assert judge.prefers(pairs) == expected
    assert not judge.looks_at_order


def test_any_causal_lm_by_path_says_a_letter(saved_llama):
    judge = ModelJudge(str(saved_llama), past=2)
    found = judge.prefers([pair("tea", "milk"), pair("milk", "tea")])

    prompt = judge._tokenizer(f"{wording_of(pair('tea', 'milk'), 2)}\nAnswer:")["input_ids"]

    def log(letter):
        ids = judge._tokenizer(letter, add_special_tokens=False)["input_ids"]
        logs = judge._model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        return sum(logs[len(prompt) - 1 + place, token].item() for place, token in enumerate(ids))

    assert found[0] == float(log(" A") > log(" B"))
    assert set(found) <= {0.0, 0.5, 1.0}
    with pytest.raises(SettingsError, match=r"evaluate.judge.path: '/nowhere'"):
        ModelJudge("/nowhere", past=2)


CUT_SHORT = 206
"""A reply of which the last bytes never come."""


@contextmanager
def serving(*replies):
    """A server on this machine that gives these (state, body) in turn, the last for ever; yields (url, requests)."""
    requests, waiting = [], list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, dict(self.headers), json.loads(body)))
            state, answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if state is None:  # hangs up
                return
            self.send_response(state)
            if isinstance(answer, bytes):
                self.send_header("Content-Length", str(len(answer) + 5 * (state == CUT_SHORT)))
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(text):
    return 200, {"choices": [{"message": {"role": "assistant", "content": text}}]}


def endpoint(url, **more):
    return EndpointJudge(JudgeSettings(by="endpoint", url=url, model="judge-1", **more), pause=0)


def test_an_endpoint_is_asked_as_openai_compatible_ones_are(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    with serving(says("A"), says("Response B."), says("neither")) as (url, requests):
        found = endpoint(url, key_variable="JUDGE_KEY", past=2).prefers([pair("tea", "milk")] * 3)

    assert found == [1, 0, 0.5]
    path, headers, body = requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["temperature"], body["messages"][0]["role"]) == ("judge-1", 0, "user")
    text = body["messages"][0]["content"]
    assert PAST[-1].response in text
    assert text.count("\n- ") == 2
    assert text.index("tea") < text.index("milk")
    assert len(requests) == 3


def test_an_endpoint_that_is_busy_is_asked_again_and_one_that_refuses_is_not():
    with serving((503, {}), (429, {}), says("B")) as (url, requests):
        assert endpoint(url).prefers([pair("tea", "milk")]) == [0]
    assert len(requests) == 3
    with serving((500, {})) as (url, requests), pytest.raises(JudgeError, match=r"state 500 \(attempt 3 of 3\)"):
        endpoint(url).prefers([pair("tea", "milk")])
    assert len(requests) == 3
    with serving((401, {})) as (url, requests), pytest.raises(JudgeError, match=r"state 401 \(attempt 1 of 3\)"):
        endpoint(url).prefers([pair("tea", "milk")])
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reply", "says_so"),
    [
        ((200, b"<html>"), "not JSON"),
        ((200, {"error": "no milk"}), r"no choices.*an 'error'"),
        ((200, ["milk"]), "no choices.*of type list"),
        ((200, {"choices": []}), "no choices"),
    ],
)
def test_an_endpoint_that_is_something_else_is_named_and_what_it_says_is_not_repeated(reply, says_so):
    with serving(reply) as (url, _), pytest.raises(JudgeError, match=says_so) as refused:
        endpoint(url).prefers([pair("tea", "milk")])
    assert "milk" not in str(refused.value)


@pytest.mark.parametrize("broken", [(None, b""), (CUT_SHORT, b'{"cho')])
def test_an_endpoint_that_drops_a_connection_is_asked_again(broken):
    with serving(broken, broken, says("B")) as (url, requests):
        assert endpoint(url).prefers([pair("tea", "milk")]) == [0]
    assert len(requests) == 3
    with serving(broken) as (url, _), pytest.raises(JudgeError, match="attempt 3 of 3"):
        endpoint(url).prefers([pair("tea", "milk")])


def test_nobody_answers_at_a_closed_door():
    with serving(says("A")) as (url, _):
        pass
    with pytest.raises(JudgeError, match="attempt 3 of 3"):
        endpoint(url).prefers([pair("tea", "milk")])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("A", 1), ("B", 0), (" b", 0.5), ("Answer: B, not A", 0), ("", 0.5), ("Apples", 0.5), ("**A**", 1)],
)
def test_a_letter_is_read_where_it_stands_alone(answer, expected):
    assert letter_of(answer) == expected


def test_settings_name_what_a_judge_needs(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    for broken in ({"by": "model"}, {"by": "endpoint", "url": "http://x"}, {"by": "endpoint", "model": "m"}):
        with pytest.raises(ValidationError, match="given without"):
            JudgeSettings(**broken)
    with pytest.raises(ValidationError, match="url"):
        JudgeSettings(by="endpoint", url="ftp://x", model="m")
    with pytest.raises(SettingsError, match="'NO_SUCH_KEY' is set"):
        endpoint("http://x", key_variable="NO_SUCH_KEY")
    with pytest.raises(SettingsError, match="needs a base model"):
        judge_of(JudgeSettings(), None, 2)
    assert named(JudgeSettings(by="endpoint", url="http://secret", model="m"))["by"] == "m"
    assert "secret" not in str(named(JudgeSettings(by="endpoint", url="http://secret", model="m")))


@pytest.mark.parametrize("opponent", ["base", "pooled"])
def test_a_comparison_without_its_opponent_is_refused_and_not_left_without_win_rates(opponent):
    judge = JudgeSettings(opponent=opponent)
    require_opponent(judge, ["memory", opponent])
    require_opponent(None, ["memory"])
    with pytest.raises(SettingsError, match=rf"judge\.opponent: '{opponent}'.*\['memory'\].*judge: null"):
        require_opponent(judge, ["memory"])
