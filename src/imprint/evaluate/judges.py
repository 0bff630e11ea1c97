"""Judges of which of two responses is more the user's: a likelihood, any Hugging Face causal LM, an endpoint.

A judge is shown what the user wrote before, the query, and two responses; it is never told which method made which.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib import error, request

from imprint.base.examples import Interaction
from imprint.errors import JudgeError, SettingsError
from imprint.evaluate.settings import JudgeSettings
from imprint.provenance import fingerprint

if TYPE_CHECKING:
    from imprint.base.load import BaseModelInUse

TIE = 0.5
WORDING = """One person wrote these messages:
{past}

Now the person is told or asked:
{query}

Response A:
{first}

Response B:
{second}

Which of the two responses is more likely to be by this person? Answer with one letter, A or B."""
ATTEMPTS = 3
MAY_PASS = (408, 409, 429, 500, 502, 503, 504)
"""HTTP states after which another attempt may help."""


class Pair(NamedTuple):
    """Two responses to one query, and the user's earlier interactions, the latest last."""

    record_id: str
    past: Sequence[Interaction]
    query: str
    first: str
    second: str

    def swapped(self) -> Pair:
        """The same with the responses in the other order."""
        return self._replace(first=self.second, second=self.first)


class Judge(Protocol):
    """Who prefers one of two."""

    looks_at_order: bool
    """Whether which response stands first may matter; such a judge is asked in both orders."""

    def prefers(self, pairs: Sequence[Pair]) -> list[float]:
        """1 where the first response is preferred, 0 where the second is, 0.5 where neither."""
        ...


class LikelihoodJudge:
    """Prefers the response that the user's earlier interactions make more likely, per token.

    Gain of a response: its log-likelihood after the latest of them and the query, minus that after the query alone,
    divided by its tokens. What anybody might say gains nothing, however likely it is.
    """

    looks_at_order = False

    def __init__(self, base: BaseModelInUse, slots: int, budget_tokens: int) -> None:
        """`base` reads at most `budget_tokens` of what came before."""
        from imprint.personalizers.prompts import Prompts
        from imprint.personalizers.unpersonalised import Unpersonalised

        self._prompts, self._model = Prompts(base, budget_tokens), Unpersonalised("judge", base, slots)

    def prefers(self, pairs: Sequence[Pair]) -> list[float]:
        """By the larger gain."""
        both = dict.fromkeys((pair.record_id, text) for pair in pairs for text in (pair.first, pair.second))
        about = {pair.record_id: pair for pair in pairs}
        rows = [(about[record], Interaction("", record, about[record].query, text)) for record, text in both]
        known = self._model.score_examples([self._prompts.example(row, pair.past) for pair, row in rows])
        alone = self._model.score_examples([self._prompts.example(row, ()) for _, row in rows])
        gains = {
            key: (without.nats - within.nats) / within.tokens
            for key, within, without in zip(both, known, alone, strict=True)
        }
        return [_larger(gains[pair.record_id, pair.first], gains[pair.record_id, pair.second]) for pair in pairs]


class ModelJudge:
    """Any Hugging Face causal LM: whichever of the letters A and B it finds likelier as its answer."""

    looks_at_order = True

    def __init__(self, path: str, past: int) -> None:
        """`path` is a folder or hub id; `past` of the user's messages are shown. `SettingsError` where it fails."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._past = past
        try:
            self._model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, trust_remote_code=False)
            self._tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        except (OSError, ValueError) as failure:
            raise SettingsError(
                f"evaluate.judge.path: {path!r} cannot be loaded as a Hugging Face causal LM with safetensors weights "
                f"and tokenizer ({str(failure).splitlines()[0]}). Next: give a folder that save_pretrained wrote, or a "
                "hub id that this machine can reach."
            ) from failure
        self._model.eval().requires_grad_(False)

    def prefers(self, pairs: Sequence[Pair]) -> list[float]:
        """By the likelier letter, one pair at a time."""
        from imprint.base.answers import AnswerTree, Needed, likelihoods

        letters = AnswerTree([tuple(self._ids(letter)) for letter in (" A", " B")])
        found = []
        for pair in pairs:
            prompt = tuple(self._prompt(wording_of(pair, self._past)))
            first, second = likelihoods(self._model, [[prompt]], letters, [[Needed()]])[0].tolist()
            found.append(_larger(first, second))
        return found

    def _prompt(self, text: str) -> list[int]:
        if self._tokenizer.chat_template is None:
            return self._ids(f"{text}\nAnswer:", special=True)
        messages = [{"role": "user", "content": text}]
        asked = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self._ids(asked)

    def _ids(self, text: str, special: bool = False) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])


class EndpointJudge:
    """A model behind an OpenAI-compatible endpoint (`POST {url}/chat/completions`); the texts leave this machine."""

    looks_at_order = True

    def __init__(self, settings: JudgeSettings, pause: float = 2.0) -> None:
        """`pause` seconds pass before a second attempt, twice as many before a third."""
        self._settings, self._pause = settings, pause
        self._headers = {"Content-Type": "application/json"}
        if settings.key_variable is not None:
            if settings.key_variable not in os.environ:
                raise SettingsError(
                    f"evaluate.judge.key_variable: no environment variable {settings.key_variable!r} is set; it holds "
                    "the endpoint's key. Next: export it, or set key_variable to null where no key is needed."
                )
            self._headers["Authorization"] = f"Bearer {os.environ[settings.key_variable]}"

    def prefers(self, pairs: Sequence[Pair]) -> list[float]:
        """By the first letter A or B that stands alone in the answer; without one, neither."""
        return [letter_of(self._answer(wording_of(pair, self._settings.past))) for pair in pairs]

    def _answer(self, text: str) -> str:
        body = {
            "model": self._settings.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self._settings.max_tokens,
        }
        given = self._posted(json.dumps(body).encode())
        try:
            return str(given["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError) as failure:
            raise JudgeError(
                f"evaluate.judge.url: the answer of {self._settings.url} has no choices[0].message.content; it is "
                f"{_outline(given)}. Next: give the base address of an OpenAI-compatible API."
            ) from failure

    def _posted(self, body: bytes) -> Any:
        url = f"{(self._settings.url or '').rstrip('/')}/chat/completions"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                asked = request.Request(url, body, self._headers)
                with request.urlopen(asked, timeout=self._settings.timeout_seconds) as answer:
                    return json.load(answer)
            except error.HTTPError as failure:
                problem, again = f"state {failure.code}", failure.code in MAY_PASS
            except OSError as failure:  # refused, timed out
                problem, again = f"{type(failure).__name__}: {failure}", True
            except HTTPException as failure:  # dropped half-way, or no HTTP: its text is the endpoint's
                problem, again = type(failure).__name__, True
            except ValueError:
                problem, again = "something that is not JSON", False
            if not again or attempt == ATTEMPTS:
                break
            time.sleep(self._pause * attempt)
        raise JudgeError(
            f"evaluate.judge.url: {url} gave {problem} (attempt {attempt} of {ATTEMPTS}). "
            "Next: check the address, the key and the model, or choose by: likelihood."
        )


def _outline(given: Any) -> str:
    """What kind of answer it is, without what it says: an endpoint may repeat what users wrote."""
    if isinstance(given, dict):
        return "an object with an 'error'" if "error" in given else f"an object of {len(given)} entries"
    return f"of type {type(given).__name__}"


def judge_of(settings: JudgeSettings, base: BaseModelInUse | None, slots: int) -> Judge:
    """The judge that the settings name; `base` is the model whose likelihood counts."""
    if settings.by == "model":
        return ModelJudge(str(settings.path), settings.past)
    if settings.by == "endpoint":
        return EndpointJudge(settings)
    if base is None:
        raise SettingsError("evaluate.judge.by: likelihood needs a base model. Next: run the base stage first.")
    return LikelihoodJudge(base, slots, settings.budget_tokens)


def named(settings: JudgeSettings) -> Mapping[str, str]:
    """Who judged, and a hash of the words it was asked in; no address and no key."""
    who = {"likelihood": "likelihood under the pooled model", "model": settings.path, "endpoint": settings.model}
    return {"by": str(who[settings.by]), "wording": fingerprint(WORDING), "settings": fingerprint(settings)}


def wording_of(pair: Pair, past: int) -> str:
    """What a judge that reads is asked; `past` of the user's latest messages are shown."""
    shown = "\n".join(f"- {row.response}" for row in pair.past[-past:])
    return WORDING.format(past=shown or "(nothing)", query=pair.query, first=pair.first, second=pair.second)


def letter_of(answer: str) -> float:
    """1 for A, 0 for B, a tie where an answer names neither."""
    found = re.search(r"\b[AB]\b", answer)
    return TIE if found is None else float(found.group() == "A")


def _larger(first: float, second: float) -> float:
    return TIE if first == second else float(first > second)
