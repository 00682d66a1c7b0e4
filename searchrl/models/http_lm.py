"""A language model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp and their kin.

Answers come one request a prompt, several in flight; the server batches them. ``generate`` needs chat completions,
``choice_logprobs`` their log-probabilities. What a server lacks is said when it is first asked for.

``continuation_logprobs`` asks in token ids, not text: the border between context and continuation is then known,
whatever the tokenizer would make of it, and the tokens are those that ``TransformersLM`` scores. Most servers score a
prompt that they echo (``echo`` with ``logprobs``). llama.cpp does not; it is made to generate the continuation by a
grammar that allows nothing else (one token after the other, so slower), and reports the probabilities from before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from searchrl.device import rng
from searchrl.errors import EngineError, ModelError
from searchrl.models.answers import ChatChoice, ChatCompletion, EchoedCompletion, GeneratedCompletion, TokenList
from searchrl.models.http_client import MissingEndpoint, ServedModel
from searchrl.models.language_model import FloatArray, check_generation, finished, split_prompt
from searchrl.models.tokens import alike, scrub

REMEMBERED = 1 << 14
"""Texts whose ids are kept: documents meet many queries."""

VOCABULARY = 1 << 20
"""More tokens than any model has."""

FORCED = 100
"""The bias that makes a token certain: the most that OpenAI's interface allows."""


TOP = 20
"""Most likely tokens to ask for: the most that OpenAI's interface allows."""

SLACK = 1.0
"""Nats by which a server's two answers to the same prompt may differ: coarse formats do by some tenths. The last
of 20 tokens is at most at -ln 20 = -3, so that a log-probability from after the bias, about 0, is still told apart."""

_NO_THOUGHTS = {"chat_template_kwargs": {"enable_thinking": False}}
PLAIN: Mapping[str, Mapping[str, Any]] = {
    "vllm": {**_NO_THOUGHTS, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0},
    "sglang": {**_NO_THOUGHTS, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    "llamacpp": {**_NO_THOUGHTS, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
}
"""Servers' own names for what keeps a model's distribution as it is, and reasoning models from thinking aloud. Others
would refuse words they do not know."""


_OPEN_TURN = {"add_generation_prompt": False, "continue_final_message": True}
GOES_ON: Mapping[str, Mapping[str, Any]] = {"vllm": _OPEN_TURN, "sglang": _OPEN_TURN, "llamacpp": {}}
"""Servers that go on from the assistant's turn where it stands last, and what tells them to. Others begin a new one:
for them the beginning of an answer stands at the end of the question."""


class HttpLM(ServedModel):
    """Implements ``LanguageModel`` over HTTP (see there for the three calls).

    base_url, model, connection: see ``ServedModel``. max_context_tokens, max_continuation_tokens, stop_at_newline: as
    in ``TransformersLM``. The server's failures are EngineErrors that carry what was answered all the same.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        max_context_tokens: int = 256,
        max_continuation_tokens: int = 256,
        stop_at_newline: bool = False,
        **connection: Any,
    ) -> None:
        super().__init__(base_url, model, **connection)
        self._max_context = max_context_tokens
        self._max_continuation = max_continuation_tokens
        self._stop_at_newline = stop_at_newline
        self._ids = lru_cache(REMEMBERED)(self._tokenize)

    @property
    def parameters(self) -> int | None:
        """Number of weights, where the server says it."""
        return self.served.parameters

    @property
    def description(self) -> str:
        """For people: what answers, and where."""
        return f"{self.name}, served by {self.served.server or 'a server'} at {self._client.base_url}"

    @property
    def fingerprint(self) -> str:
        """Address, name, what the server says about the model, the cuts and ``stop_at_newline``."""
        settings = f"{self._max_context} {self._max_continuation} {self._stop_at_newline}"
        return f"http-1 {self.served.fingerprint} {settings}"

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """See ``LanguageModel.generate``; white space around the answer is removed."""
        check_generation(max_new_tokens, temperature)

        def answer(prompt: str) -> str:
            stream = int(rng(seed, "generate", prompt).integers(2**31)) if temperature else 0
            choice = self._chat(prompt, max_tokens=max_new_tokens, temperature=temperature, top_p=1.0, seed=stream)
            text = (choice.message.content or "").strip()
            # Some servers repeat how the answer began.
            return finished(text.removeprefix(split_prompt(prompt)[1]), self._stop_at_newline)

        return self._client.each(prompts, answer)

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.choice_logprobs``.

        A choice outside the likeliest 20 tokens is asked for by itself, with a bias that makes it certain; servers
        report log-probabilities from before the bias. Raises ModelError where two such begin with the same token.
        """

        def answer(prompt: str) -> FloatArray:
            _, top = self._next_token(prompt, TOP)
            floor = min(top.values())
            found = [top[c] if c in top else self._forced(prompt, c, choices, floor) for c in choices]
            logits = np.array(found, dtype=np.float64)
            return np.asarray(logits - np.logaddexp.reduce(logits), dtype=np.float32)

        rows = self._client.each(prompts, answer)
        return np.array(rows, dtype=np.float32).reshape(len(prompts), len(choices))

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.continuation_logprobs``; an empty continuation scores 0, the logarithm of certainty."""
        pairs = list(zip(contexts, continuations, strict=True))
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        _ = self.served  # asked once, not by every thread

        def answer(pair: tuple[str, str]) -> float:
            start = self._ids(pair[0], True)[: self._max_context]
            ending = self._ids(pair[1], False)[: self._max_continuation]
            return self._mean_logprob(start, ending) if ending else 0.0

        return np.array(self._client.each(pairs, answer), dtype=np.float32)

    def _tokenize(self, text: str, special: bool) -> tuple[int, ...]:
        """Ids of a text by /tokenize (vLLM, SGLang, llama.cpp); ``special``: with the model's text start."""
        text = scrub(text)
        # The servers' names for the same two arguments; each ignores the other's.
        names = {"prompt": text, "content": text, "add_special_tokens": special, "add_special": special}
        try:
            tokens = self._client.post("/tokenize", {"model": self.name, **names}, TokenList).tokens
        except MissingEndpoint as error:
            raise EngineError(
                f"{error}; without the server's tokenizer likelihoods cannot be scored and rare answers not weighed: "
                "use vLLM, SGLang or llama.cpp, or the engine transformers"
            ) from error
        if not tokens and text.strip():  # else the text would score as certain
            raise EngineError(f"{self._client.base_url}/tokenize has no tokens for {text[:60]!r}")
        return tuple(tokens)

    def _chat(self, prompt: str, **settings: Any) -> ChatChoice:
        """The first choice of a chat completion of one user's turn, whose answer may have begun."""
        message, beginning = map(scrub, split_prompt(prompt))
        server = self.served.server
        turns, extra = [{"role": "user", "content": message}], PLAIN.get(server, {})
        if beginning and server in GOES_ON:
            turns.append({"role": "assistant", "content": beginning})
            extra = {**extra, **GOES_ON[server]}
        elif beginning:
            turns[0]["content"] += f"\n\n{beginning}"
        body = {"model": self.name, "messages": turns, **extra, **settings}
        return self._client.post("/v1/chat/completions", body, ChatCompletion).choices[0]

    def _next_token(self, prompt: str, top: int, **settings: Any) -> tuple[tuple[str, float], dict[str, float]]:
        """The first token of the answer, and the ``top`` likeliest: texts and log-probabilities."""
        choice = self._chat(prompt, max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=top, **settings)
        if choice.logprobs is None or not choice.logprobs.content:
            raise EngineError(
                f"{self._client.base_url} gives no log-probabilities with chat completions, which judging by yes_no "
                "or graded needs; use a server that does (vLLM, llama.cpp), or the engine transformers"
            )
        first = choice.logprobs.content[0]
        said = first.token, first.logprob
        likeliest = {entry.token: entry.logprob for entry in reversed(first.top_logprobs)}
        return said, likeliest or dict([said])

    def _forced(self, prompt: str, choice: str, choices: Sequence[str], floor: float) -> float:
        first = {c: self._ids(c, False)[:1] for c in choices}
        if shared := [c for c in choices if list(first.values()).count(first[c]) > 1 or not first[c]]:
            raise alike(self.name, shared)
        (token, logprob), _ = self._next_token(prompt, 1, logit_bias={str(first[choice][0]): FORCED})
        if not choice.startswith(token) or logprob > floor + SLACK:
            raise EngineError(
                f"{self._client.base_url} does not say how likely the answer {choice!r} is: it is not among the "
                f"likeliest {TOP}, and asked for by logit_bias the server says {token!r} at {logprob:.2f}; judge by "
                "likelihood, or use vLLM, llama.cpp or the engine transformers"
            )
        return logprob

    def _mean_logprob(self, context: Sequence[int], continuation: Sequence[int]) -> float:
        """Mean log-probability per token, in nats, of a continuation (not empty) after a context, both as token ids.

        Raises EngineError where the server does not say it, ModelError on an empty context, which has no next token.
        """
        if not context:
            raise ModelError(
                f"{self.name} at {self._client.base_url} cannot score a continuation after an empty context"
            )
        score = self._generated if self.served.server == "llamacpp" else self._echoed
        logprobs = score(context, continuation)
        mean = float(np.mean(logprobs)) if logprobs else float("nan")
        if not np.isfinite(mean):
            raise EngineError(
                f"{self._client.base_url} gives no log-probabilities of a prompt (/v1/completions with echo and "
                "logprobs), which judging by likelihood needs; use vLLM, SGLang or llama.cpp, the engine transformers, "
                "or judge by grades"
            )
        return mean

    def _echoed(self, context: Sequence[int], continuation: Sequence[int]) -> list[float]:
        # One new token, not none: some servers refuse to generate nothing.
        prompt = [*context, *continuation]
        body = {"model": self.name, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        logprobs = self._client.post("/v1/completions", body, EchoedCompletion).choices[0].logprobs
        scored = (logprobs and logprobs.token_logprobs) or []
        # A server that ignores echo has one token to report, one that ignores max_tokens more than there are here.
        if len(scored) - len(prompt) not in (0, 1):
            return []
        return [float("nan") if value is None else value for value in scored[len(context) : len(prompt)]]

    def _generated(self, context: Sequence[int], continuation: Sequence[int]) -> list[float]:
        only = {"grammar": "root ::= " + " ".join(f"<[{token}]>" for token in continuation)}
        entries = self._generate(context, len(continuation), 1, only)
        if [token for token, _, _ in entries] == list(continuation):
            return [logprob for _, logprob, _ in entries]
        # Tokens that make up one character between them are reported as one, by the last: so each by itself.
        starts = [[*context, *continuation[:i]] for i in range(len(continuation))]
        return [
            value for start, token in zip(starts, continuation, strict=True) for value in self._single(start, token)
        ]

    def _single(self, context: Sequence[int], token: int) -> list[float]:
        # By a bias: llama.cpp fails on a grammar of a token that ends a character which another began.
        entries = self._generate(context, 1, 1, {"logit_bias": {str(token): FORCED}})
        if [found for found, _, _ in entries] == [token]:
            return [entries[0][1]]
        # The beginning of a character is not reported at all, except among all that might stand where a letter does.
        entries = self._generate(context, 1, VOCABULARY, {"grammar": 'root ::= "a"'})
        return [others[token] for _, _, others in entries if token in others] or [float("nan")]

    def _generate(
        self, prompt: Sequence[int], tokens: int, top: int, how: Mapping[str, Any]
    ) -> list[tuple[int, float, dict[int, float]]]:
        """Of each token that llama.cpp generates: id, log-probability, those of the ``top`` likeliest in its place."""
        settings = {"max_tokens": tokens, "temperature": 0.0, "logprobs": top, **how}
        body = {"model": self.name, "prompt": list(prompt), **settings}
        logprobs = self._client.post("/v1/completions", body, GeneratedCompletion).choices[0].logprobs
        entries = (logprobs and logprobs.content) or []
        return [(e.id, e.logprob, {o.id: o.logprob for o in e.top_logprobs}) for e in entries]
