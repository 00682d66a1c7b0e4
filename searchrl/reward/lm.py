"""A causal language model scores (query, document) pairs: one forward pass a pair, nothing is sampled.

``LMReward`` has four methods. ``yes_no`` reads the probability of Yes against No after an instruction; ``graded`` the
expected grade; ``likelihood`` how probable the query is as the document's continuation (Ponte and Croft 1998; Sachan et
al. 2022); ``pmi`` how much more probable the document makes it than no document does, which can be compared from query
to query. Models under about 1B parameters answer instructions near chance but do tell likelihoods apart.

``QwenReranker`` is for Qwen3-Reranker (Zhang et al. 2025), trained to answer yes or no in one fixed form, which is sent
as plain text, without the chat template, as two continuations of one context.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from searchrl.errors import ConfigError, nearest
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.models.prompts import Prompts, beginning, fill
from searchrl.reward.reward_model import check_finite

Method = Literal["yes_no", "graded", "likelihood", "pmi"]

PROMPTS_READ: dict[Method, tuple[str, ...]] = {
    "yes_no": ("yes_no",),
    "graded": ("graded",),
    "likelihood": ("likelihood_context", "likelihood_continuation"),
    "pmi": ("likelihood_context", "likelihood_continuation"),
}
"""The fields of ``Prompts`` that each method fills in."""

ANSWERS = ("Yes", "No")

GRADES = tuple("0123456789")
"""The grades asked for; the score is the expected one divided by 9. In most tokenizers 10 would begin like 1."""

BYTES_PER_WORD = 8
"""A text is also cut to this many bytes a word, so that one unbroken string cannot fill the model."""

MAX_QUERY_WORDS = 100


@dataclass(frozen=True)
class LMReward:
    """Scores pairs with a language model by one of the four methods.

    The prompt shows the first ``max_document_words`` words of a document: 80 words of English prose are about 128
    tokens. Raises ConfigError on an unknown method or a limit below 1.
    """

    lm: LanguageModel
    method: Method
    prompts: Prompts
    max_document_words: int = 80

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigError(f"unknown reward method {self.method!r}: {nearest(str(self.method), get_args(Method))}")
        if self.max_document_words < 1:
            raise ConfigError(f"max_document_words {self.max_document_words}: must be at least 1")

    @property
    def fingerprint(self) -> str:
        """Model, method, the prompts that this method reads, and the cut."""
        digest = self.prompts.digest(*PROMPTS_READ[self.method])
        return f"lm-1 {self.lm.fingerprint} {self.method} {digest} {self.max_document_words}"

    @property
    def absolute(self) -> bool:
        """True of ``yes_no`` and ``graded``; likelihoods have no common scale in [0, 1]."""
        return self.method in ("yes_no", "graded")

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """Scores of the n pairs (queries[i], documents[i]), shape (n,).

        ``yes_no`` and ``graded``: in [0, 1]. ``likelihood``: mean log-probability per token of the query, in nats,
        at most 0. ``pmi``: the same minus that of the query after an empty document; 0 where the document says nothing
        about it. Raises ModelError when the model answers with something that is not a finite number.
        """
        words = self.max_document_words
        pairs = [(query, beginning(document, words)) for query, document in zip(queries, documents, strict=True)]
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        if self.method == "likelihood":
            scores = self._likelihoods(pairs)
        elif self.method == "pmi":
            alone = {query: i for i, query in enumerate(dict.fromkeys(queries))}
            both = self._likelihoods([*pairs, *((query, "") for query in alone)])
            scores = both[: len(pairs)] - both[len(pairs) :][[alone[query] for query in queries]]
        elif self.method == "yes_no":
            scores = self._probabilities(self.prompts.yes_no, pairs, ANSWERS)[:, 0]
        else:
            probabilities = self._probabilities(self.prompts.graded, pairs, GRADES)
            scores = np.clip(probabilities @ np.linspace(0.0, 1.0, len(GRADES), dtype=np.float32), 0.0, 1.0)
        return check_finite(scores, queries, "the language model")

    def _likelihoods(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """Mean log-probability per token of each query after its document, (n,)."""
        contexts = [fill(self.prompts.likelihood_context, document=document) for _, document in pairs]
        continuations = [fill(self.prompts.likelihood_continuation, query=query) for query, _ in pairs]
        return self.lm.continuation_logprobs(contexts, continuations)

    def _probabilities(self, prompt: str, pairs: Sequence[tuple[str, str]], choices: Sequence[str]) -> FloatArray:
        """Probability of each choice after each pair's prompt, (n, choices), rows summing to 1."""
        prompts = [fill(prompt, query=query, document=document) for query, document in pairs]
        return np.exp(self.lm.choice_logprobs(prompts, choices))


@dataclass(frozen=True)
class QwenReranker:
    """Scores pairs by the probability of yes against no, in [0, 1].

    Documents are cut to ``max_document_words``, queries to 100 words, before they are put into the form. The language
    model must not cut what it is given: see ``context_tokens``. Raises ConfigError on a limit below 1.
    """

    lm: LanguageModel
    prompts: Prompts
    max_document_words: int = 400

    absolute = True

    def __post_init__(self) -> None:
        if self.max_document_words < 1:
            raise ConfigError(f"max_document_words {self.max_document_words}: must be at least 1")

    @property
    def fingerprint(self) -> str:
        """Model, instruction and the cut."""
        texts = f"{self.prompts.reranker_form}\0{self.prompts.reranker_instruction}"
        digest = hashlib.sha256(texts.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"qwen-reranker-1 {self.lm.fingerprint} {digest} {self.max_document_words}"

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """Scores of the n pairs (queries[i], documents[i]), shape (n,).

        Raises ModelError when the model answers with something that is not a finite number.
        """
        contexts = [
            fill(
                self.prompts.reranker_form,
                instruction=self.prompts.reranker_instruction,
                query=_cut(query, MAX_QUERY_WORDS),
                document=_cut(document, self.max_document_words),
            )
            for query, document in zip(queries, documents, strict=True)
        ]
        if not contexts:
            return np.zeros(0, dtype=np.float32)
        answers = [answer for _ in contexts for answer in ("yes", "no")]
        twice = [context for context in contexts for _ in range(2)]
        yes, no = self.lm.continuation_logprobs(twice, answers).reshape(-1, 2).astype(np.float64).T
        with np.errstate(over="ignore", invalid="ignore"):
            scores = 1.0 / (1.0 + np.exp(no - yes))
        return check_finite(scores, queries, "the language model")


def context_tokens(prompts: Prompts, max_document_words: int) -> int:
    """Tokens that the filled form takes at most: no tokenizer makes more of a text than it has bytes."""
    return len((prompts.reranker_form + prompts.reranker_instruction).encode("utf-8", "replace")) + BYTES_PER_WORD * (
        MAX_QUERY_WORDS + max_document_words
    )


def _cut(text: str, words: int) -> str:
    """The beginning of a text, white space as it is: at most so many words, and bytes for as many."""
    pieces = text.split(None, words)
    kept = text[: len(text) - len(pieces[words])] if len(pieces) > words else text
    return kept.encode("utf-8", "replace")[: BYTES_PER_WORD * words].decode("utf-8", "ignore")
