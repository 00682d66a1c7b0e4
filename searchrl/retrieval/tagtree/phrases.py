"""The phrases of documents that may serve as tags, how much each says about its document, and which become tags.

A phrase is a run of one to three words without stop words or punctuation between them (RAKE: Rose et al. 2010). It
weighs what BM25 would give it, rarity and saturated frequency, and more the longer it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchrl.errors import DataError

MOST_WORDS = 3
"""Words in a phrase."""
K1 = 1.2
"""How soon a phrase that comes again in its document adds nothing (BM25)."""
ROUNDS = 4
"""How often documents choose anew among the tags that are left."""

_TOKEN = re.compile(r"[^\W_][\w'’-]*|[^\w\s]")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Phrases:
    """What documents may be tagged with.

    names: m phrases. weights: (documents, m) scipy CSR of float32, above 0 where a phrase is available.
    """

    names: Sequence[str]
    weights: Any


def document_phrases(texts: Sequence[str], least: int, most_share: float) -> Phrases:
    """The phrases that at least ``least`` documents have, and at most ``most_share`` of them, with their weights.

    Raises DataError where there are none.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    most = max(most_share * len(texts), least)
    vectorizer = CountVectorizer(analyzer=phrases, min_df=least, max_df=int(most))
    try:
        counts = vectorizer.fit_transform(texts).tocsr().astype(np.float32)
    except ValueError as error:  # how scikit-learn says that nothing is left
        raise DataError(
            f"no phrase occurs in {least} to {int(most)} of {len(texts)} documents; change min_documents or max_share"
        ) from error
    names = vectorizer.get_feature_names_out().tolist()
    frequency = np.bincount(counts.indices, minlength=len(names))
    rarity = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5))
    words = np.array([name.count(" ") + 1 for name in names])
    counts.data = counts.data / (counts.data + K1) * (rarity * np.sqrt(words)).astype(np.float32)[counts.indices]
    return Phrases(names, counts)


def best_phrases(phrases: Phrases, per_document: int, least: int) -> list[list[str]]:
    """The tags of each document, best first, see ``choose``. Raises DataError where no tag is left."""
    chosen = choose(phrases.weights, per_document, least)
    if not chosen.nnz:
        raise DataError(f"no tag is shared by {least} documents; lower min_documents")
    tags = []
    for row in range(chosen.shape[0]):
        span = slice(chosen.indptr[row], chosen.indptr[row + 1])
        columns = chosen.indices[span]
        tags.append([phrases.names[column] for column in columns[np.lexsort((columns, -chosen.data[span]))]])
    return tags


def choose(weights: Any, per_document: int, least: int) -> Any:
    """Give each document up to ``per_document`` phrases, those that weigh most, so that each is given ``least`` times.

    weights: (documents, phrases) CSR. Phrases that too few documents chose are dropped and the documents choose again,
    because a tag of one document leads nowhere else. Returns what was chosen: the same shape, with the weights.
    """
    from scipy import sparse

    rows = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
    order = np.lexsort((weights.indices, -weights.data, rows))
    rows, columns, values = rows[order], weights.indices[order], weights.data[order]
    kept = np.flatnonzero(values > 0)
    for _ in range(ROUNDS):
        starts = np.searchsorted(rows[kept], rows[kept])
        chosen = kept[np.arange(len(kept)) - starts < per_document]
        enough = np.bincount(columns[chosen], minlength=weights.shape[1]) >= least
        if enough[columns[chosen]].all():
            break
        kept = kept[enough[columns[kept]]]
    chosen = chosen[enough[columns[chosen]]]
    return sparse.csr_matrix((values[chosen], (rows[chosen], columns[chosen])), shape=weights.shape)


def phrases(text: str) -> list[str]:
    """Every phrase of a text, as often as it stands there, in its normal form.

    >>> phrases("The boundary layers of a wing")
    ['boundary', 'boundary layer', 'layer', 'wing']
    """
    found: list[str] = []
    run: list[str] = []
    for token in [*_TOKEN.findall(text.lower()), "."]:
        word = token.rstrip("'’-").removesuffix("'s").removesuffix("’s")
        if len(word) > 1 and _LETTER.search(word) and word not in _stop_words():
            run.append(word)
            continue
        for start in range(len(run)):
            for end in range(start + 1, min(start + MOST_WORDS, len(run)) + 1):
                found.append(" ".join([*run[start : end - 1], singular(run[end - 1])]))
        run = []
    return found


def normal(tag: str) -> str:
    """A tag in lower case, its last word in the singular, with single spaces; empty where nothing is left.

    >>> normal(" Boundary  Layers.")
    'boundary layer'
    """
    words = [word.strip("'’-.:;,\"“”‘`*#()[]{}<>!?") for word in tag.lower().split()]
    words = [word for word in words if word]
    return " ".join([*words[:-1], singular(words[-1])]) if words else ""


def singular(word: str) -> str:
    """An English noun's singular, by its ending; what is no plural stays as it is.

    >>> [singular(word) for word in ("studies", "boxes", "wings", "mass", "analysis", "nucleus", "gas")]
    ['study', 'box', 'wing', 'mass', 'analysis', 'nucleus', 'gas']
    """
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "xes", "sses", "zes")) else word[:-1]


def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words: frozenset[str] = ENGLISH_STOP_WORDS
    return words
