"""Qwen3-Reranker: a causal language model trained to answer yes or no in one fixed form (Zhang et al. 2025,
"Qwen3 Embedding", and the models' cards).

The relevance is the probability of ``yes`` against ``no`` as the next token. The form has a system message and a closed
thinking block, so it is sent as plain text, without the chat template, as two continuations of one context. Any
``LanguageModel`` can do that: in-process, over HTTP, from the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from searchrl.errors import ConfigError, ModelError
from searchrl.models.language_model import FloatArray, LanguageModel

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
"""What the models were trained with for search; tasks of another kind do better with an instruction of their own."""

FORM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)

BYTES_PER_WORD = 8
"""A text is also cut to this many bytes a word, so that one unbroken string cannot fill the model."""

MAX_QUERY_WORDS = 100


@dataclass(frozen=True)
class QwenReranker:
    """Scores pairs by the probability of yes against no, in [0, 1].

    Documents are cut to ``max_document_words``, queries to 100 words, before they are put into the form. The language
    model must not cut what it is given: see ``context_tokens``. Raises ConfigError on a limit below 1.
    """

    lm: LanguageModel
    instruction: str = INSTRUCTION
    max_document_words: int = 400

    absolute = True

    def __post_init__(self) -> None:
        if self.max_document_words < 1:
            raise ConfigError(f"max_document_words is {self.max_document_words}; it must be at least 1")

    @property
    def fingerprint(self) -> str:
        """Model, instruction and the cut."""
        digest = hashlib.sha256(f"{FORM}\0{self.instruction}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"qwen-reranker-1 {self.lm.fingerprint} {digest} {self.max_document_words}"

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """Scores of the n pairs (queries[i], documents[i]), shape (n,).

        Raises ModelError when the model answers with something that is not a finite number.
        """
        contexts = [
            FORM.format(
                instruction=self.instruction,
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
        if not np.isfinite(scores).all():
            query = queries[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise ModelError(f"the language model gave no finite score for the query {query!r}; use dtype float32")
        return np.asarray(scores, dtype=np.float32)


def context_tokens(instruction: str, max_document_words: int) -> int:
    """Tokens that the filled form takes at most: no tokenizer makes more of a text than it has bytes."""
    return len((FORM + instruction).encode()) + BYTES_PER_WORD * (MAX_QUERY_WORDS + max_document_words)


def _cut(text: str, words: int) -> str:
    """The beginning of a text, white space as it is: at most so many words, and bytes for as many."""
    pieces = text.split(None, words)
    kept = text[: len(text) - len(pieces[words])] if len(pieces) > words else text
    return kept.encode("utf-8", "replace")[: BYTES_PER_WORD * words].decode("utf-8", "ignore")
