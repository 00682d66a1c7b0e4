"""Which documents are asked about: a random order of them, or pairs that belong together."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.data.query_bank import QueryType
from searchrl.device import rng
from searchrl.errors import DataError
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.lexical import LexicalIndex

LEAST_DOCUMENT_WORDS = 5
"""A document with fewer is not asked about."""
NEIGHBOURS = 5
"""A document is paired with one of so many nearest."""
SAME = 0.95
"""Cosine from which on two documents say the same, so that nothing needs both."""
KEYWORDS = 5
"""Words of a document that are hidden where an adversarial question is asked."""

Source = tuple[int, ...]
"""The documents of one question, as positions in the corpus."""


def sources(kind: QueryType, corpus: Corpus, dense: DenseIndex, seed: int) -> Iterator[Source]:
    """What to ask about, without end until the corpus has been gone through; equal for equal seeds.

    ``single``, ``adversarial``: every document that has words enough, in an order of the type's own. ``multi``: the
    same, each with its nearest neighbour that is not a copy; no pair comes twice.

    Raises DataError where no document has words enough.
    """
    order = rng(seed, "querygen", kind).permutation(len(corpus))
    enough = set(rows_to_ask(corpus))
    if not enough:
        raise DataError(f"no document has {LEAST_DOCUMENT_WORDS} words or more; there is nothing to ask about")
    documents = (int(i) for i in order if int(i) in enough)
    return ((i,) for i in documents) if kind != "multi" else _pairs(documents, enough, dense)


def rows_to_ask(corpus: Corpus) -> list[int]:
    """The documents that have words enough to be asked about."""
    return [i for i in range(len(corpus)) if len(corpus.full_text(i).split()) >= LEAST_DOCUMENT_WORDS]


def _pairs(documents: Iterator[int], enough: set[int], dense: DenseIndex) -> Iterator[Source]:
    seen: set[frozenset[int]] = set()
    for document in documents:
        itself = np.array([document], dtype=np.int32)
        near = dense.search(np.asarray(dense.vectors[itself]), NEIGHBOURS, exclude=itself)
        for other, cosine in zip(near.documents[0].tolist(), near.scores[0].tolist(), strict=True):
            pair = frozenset((document, other))
            if other in enough and cosine < SAME and pair not in seen:
                seen.add(pair)
                yield document, other
                break


def without_keywords(document: int, text: str, lexical: LexicalIndex) -> str:
    """A document's text, or a part of it, without the words that weigh most in it by BM25, in any form of them."""
    hidden = set(lexical.feedback_terms(np.array([[document]], dtype=np.int32), KEYWORDS).indices.tolist())
    present = sorted({word.lower() for word in re.findall(r"\w\w+", text)})
    terms = lexical.query_terms(present)
    keywords = {word for row, word in enumerate(present) if hidden.intersection(terms[row].indices.tolist())}
    kept = re.sub(r"\w\w+", lambda match: "" if match[0].lower() in keywords else match[0], text)
    return " ".join(kept.split())
