"""What is asked of a server in token ids: a text's ids, and how probable a continuation is after a context.

Ids, not text: the border between context and continuation is then known, whatever the tokenizer would make of it, and
the tokens are those that ``TransformersLM`` scores. Most servers score a prompt that they echo (``echo`` with
``logprobs``). llama.cpp does not; it is made to generate the continuation by a grammar that allows nothing else (one
token after the other, so slower), and reports the probabilities from before the grammar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from searchrl.errors import EngineError, ModelError
from searchrl.models.http_client import HttpClient, MissingEndpoint
from searchrl.models.served_model import ServedFacts
from searchrl.models.tokens import scrub

REMEMBERED = 1 << 14
"""Texts whose ids are kept: documents meet many queries."""

VOCABULARY = 1 << 20
"""More tokens than any model has."""

FORCED = 100
"""The bias that makes a token certain: the most that OpenAI's interface allows."""


class HttpTokenizer:
    """The tokenizer of one served model, by /tokenize (vLLM, SGLang, llama.cpp); may be shared by threads."""

    def __init__(self, client: HttpClient, model: str) -> None:
        self._client = client
        self._model = model
        self._remembered = lru_cache(REMEMBERED)(self._ask)

    def ids(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text; ``special``: with what the model wants at a text's start. Raises EngineError where the server
        has no tokenizer to ask.
        """
        return list(self._remembered(text, special))

    def _ask(self, text: str, special: bool) -> tuple[int, ...]:
        text = scrub(text)
        # The servers' names for the same two arguments; each ignores the other's.
        body = {
            "model": self._model,
            "prompt": text,
            "content": text,
            "add_special_tokens": special,
            "add_special": special,
        }
        try:
            answer = self._client.post("/tokenize", body)
            return tuple(int(token) for token in answer["tokens"])
        except MissingEndpoint as error:
            raise EngineError(
                f"{error}; without the server's tokenizer likelihoods cannot be scored and rare answers not weighed: "
                "use vLLM, SGLang or llama.cpp, or the engine transformers"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(
                f"{self._client.base_url}/tokenize does not answer with tokens: {answer!s:.80}"
            ) from error


def mean_logprob(client: HttpClient, served: ServedFacts, context: Sequence[int], continuation: Sequence[int]) -> float:
    """Mean log-probability per token, in nats, of a continuation (not empty) after a context, both as token ids.

    Raises EngineError where the server does not say it, ModelError on an empty context, which has no next token.
    """
    if not context:
        raise ModelError(f"{served.name} at {client.base_url} cannot score a continuation after an empty context")
    by_grammar = served.server == "llamacpp"
    logprobs = (_generated if by_grammar else _echoed)(client, served.name, context, continuation)
    mean = float(np.mean(logprobs)) if logprobs else float("nan")
    if not np.isfinite(mean):
        raise EngineError(
            f"{client.base_url} gives no log-probabilities of a prompt (/v1/completions with echo and logprobs), which "
            "judging by likelihood needs; use vLLM, SGLang or llama.cpp, the engine transformers, or judge by grades"
        )
    return mean


def _echoed(client: HttpClient, model: str, context: Sequence[int], continuation: Sequence[int]) -> list[float]:
    # One new token, not none: some servers refuse to generate nothing.
    prompt = [*context, *continuation]
    body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
    answer = client.post("/v1/completions", body)
    try:
        scored = answer["choices"][0]["logprobs"]["token_logprobs"]
        # A server that ignores echo has one token to report, one that ignores max_tokens more than there are here.
        if len(scored) - len(prompt) not in (0, 1):
            return []
        return [float(value) for value in scored[len(context) : len(prompt)]]
    except (KeyError, IndexError, TypeError, ValueError):
        return []


def _generated(client: HttpClient, model: str, context: Sequence[int], continuation: Sequence[int]) -> list[float]:
    only = {"grammar": "root ::= " + " ".join(f"<[{token}]>" for token in continuation)}
    entries = _generate(client, model, context, len(continuation), 1, only)
    if [token for token, _, _ in entries] == list(continuation):
        return [logprob for _, logprob, _ in entries]
    # Tokens that make up one character between them are reported as one, by the last: so each by itself.
    starts = [[*context, *continuation[:i]] for i in range(len(continuation))]
    return [
        value
        for start, token in zip(starts, continuation, strict=True)
        for value in _single(client, model, start, token)
    ]


def _single(client: HttpClient, model: str, context: Sequence[int], token: int) -> list[float]:
    # By a bias: llama.cpp fails on a grammar of a token that ends a character which another began.
    entries = _generate(client, model, context, 1, 1, {"logit_bias": {str(token): FORCED}})
    if [found for found, _, _ in entries] == [token]:
        return [entries[0][1]]
    # The beginning of a character is not reported at all, except among all that might stand where a letter does.
    entries = _generate(client, model, context, 1, VOCABULARY, {"grammar": 'root ::= "a"'})
    return [others[token] for _, _, others in entries if token in others] or [float("nan")]


def _generate(
    client: HttpClient, model: str, prompt: Sequence[int], tokens: int, top: int, how: Mapping[str, Any]
) -> list[tuple[int, float, dict[int, float]]]:
    """Of each token that llama.cpp generates: id, log-probability, and those of the ``top`` likeliest in its place."""
    body = {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": tokens,
        "temperature": 0.0,
        "logprobs": top,
        **how,
    }
    answer = client.post("/v1/completions", body)
    try:
        return [
            (int(e["id"]), float(e["logprob"]), {int(o["id"]): float(o["logprob"]) for o in e["top_logprobs"]})
            for e in answer["choices"][0]["logprobs"]["content"]
        ]
    except (KeyError, IndexError, TypeError, ValueError):
        return []
