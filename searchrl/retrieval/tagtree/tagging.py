"""Tags of documents: their own phrases by weight, or what a language model writes or chooses among them.

A phrase is a run of one to three words without stop words or punctuation between them (RAKE: Rose et al. 2010). It
weighs what BM25 would give it, rarity and saturated frequency, and more the longer it is. A model that follows
instructions writes tags; a small one chooses among the phrases by likelihood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import DataError, ModelError
from searchrl.models.language_model import LanguageModel
from searchrl.models.prompts import Prompts, beginning, fill
from searchrl.retrieval.tagtree.settings import TagSettings

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


ModelTagger = Literal["lm-write", "lm-choose"]
PROMPTS: Mapping[ModelTagger, Sequence[str]] = {
    "lm-write": ("tags",),
    "lm-choose": ("tag_context", "tag_continuation"),
}
"""What each way to tag asks, by the names of ``Prompts``."""

SHOWN_WORDS = 160
"""Words of a document that the model is shown."""
CONTEXT_TOKENS = 3 * SHOWN_WORDS
"""Tokens of a context that the model has to read."""
OFFERED = 2
"""Phrases that a model chooses among, for each that it is to choose."""
TOKENS_PER_TAG = 8
"""Room in an answer."""

_LABEL = re.compile(r"^(?:[-*•>#]+\s*|\d{1,2}[.)]\s*|[\w ]{0,24}:\s*)+")


@dataclass(frozen=True)
class TaggingModel:
    """A language model that writes tags, or chooses them. rows: the documents that it is asked about."""

    how: ModelTagger
    lm: LanguageModel
    prompts: Prompts
    rows: Sequence[int]


def tags_of(corpus: Corpus, settings: TagSettings, model: TaggingModel | None = None) -> list[list[str]]:
    """The tags of each document, best first; some may have none. Without a model they are the documents' own phrases.

    Raises DataError where there are none, ModelError where it is the model that gave none.
    """
    texts, least = corpus.full_texts(), settings.least(len(corpus))
    count, share = settings.tags_per_document, settings.max_share
    if model is None:
        return best_phrases(document_phrases(texts, least, share), count, least)
    if model.how == "lm-write":
        phrases = written_tags(model.lm, model.prompts, texts, model.rows, count, share)
    else:
        offered = document_phrases(texts, least, share)
        phrases = chosen_tags(model.lm, model.prompts, texts, model.rows, count, offered)
    try:
        return best_phrases(phrases, count, least)
    except DataError as error:
        raise ModelError(
            f"of the tags that the model gave, none is shared by {least} documents: lower min_documents, or use a "
            "larger model or the tagger lm-choose"
        ) from error


def written_tags(
    lm: LanguageModel, prompts: Prompts, texts: Sequence[str], rows: Sequence[int], count: int, most_share: float
) -> Phrases:
    """Have the model write up to ``count`` tags for each of the documents ``rows``; the first weighs most.

    Tags of more than ``most_share`` of these documents are left out.
    """
    from scipy import sparse

    asked = [fill(prompts.tags, document=beginning(texts[row], SHOWN_WORDS), count=count) for row in rows]
    answers = lm.generate(asked, max_new_tokens=TOKENS_PER_TAG * count)
    lists = [parse(answer)[:count] for answer in answers]
    names = sorted({tag for tags in lists for tag in tags})
    place = {name: i for i, name in enumerate(names)}
    where = [row for row, tags in zip(rows, lists, strict=True) for _ in tags]
    columns = [place[tag] for tags in lists for tag in tags]
    weights = [1 / (1 + rank) for tags in lists for rank in range(len(tags))]
    matrix = sparse.csr_matrix((np.array(weights, np.float32), (where, columns)), shape=(len(texts), len(names)))
    common = np.bincount(matrix.indices, minlength=len(names)) > max(1, most_share * len(rows))
    matrix.data[common[matrix.indices]] = 0.0
    matrix.eliminate_zeros()
    return Phrases(names, matrix)


def parse(answer: str) -> list[str]:
    """The tags in an answer, in normal form: what stands between commas or line breaks and has few enough words.

    >>> parse("Subjects: Delta Wings, supersonic flow;\\n2. lift")
    ['delta wing', 'supersonic flow', 'lift']
    """
    parts = (_LABEL.sub("", part.strip()) for part in re.split(r"[,;|\n]", answer))
    tags = (normal(part) for part in parts)
    return list(
        dict.fromkeys(tag for tag in tags if 0 < len(tag.split()) <= MOST_WORDS and re.search(r"[^\W\d_]", tag))
    )


def chosen_tags(
    lm: LanguageModel, prompts: Prompts, texts: Sequence[str], rows: Sequence[int], count: int, offered: Phrases
) -> Phrases:
    """Weigh the phrases of the documents ``rows`` by what the model says of them, the ``OFFERED * count`` best of each.

    A phrase's weight is its lift: how much likelier, in nats per token, it becomes after the document than it is after
    an empty one (pointwise mutual information), and more the longer it is; phrases that become no likelier are out.
    """
    from scipy import sparse

    pairs: list[tuple[int, int]] = []
    for row in rows:
        span = slice(offered.weights.indptr[row], offered.weights.indptr[row + 1])
        columns, values = offered.weights.indices[span], offered.weights.data[span]
        best = np.lexsort((columns, -values))[: OFFERED * count]
        pairs += [(row, int(column)) for column in sorted(columns[best])]
    contexts = {row: fill(prompts.tag_context, document=beginning(texts[row], SHOWN_WORDS)) for row in rows}
    columns = np.array([column for _, column in pairs], dtype=np.int32)
    used, place = np.unique(columns, return_inverse=True)
    empty = fill(prompts.tag_context, document="")
    tags = {int(c): fill(prompts.tag_continuation, tag=offered.names[c]) for c in used}
    before = lm.continuation_logprobs([empty] * len(used), [tags[int(c)] for c in used])
    after = lm.continuation_logprobs([contexts[row] for row, _ in pairs], [tags[column] for _, column in pairs])
    words = np.array([offered.names[column].count(" ") + 1 for column in columns])
    weights = np.maximum(after - before[place], 0.0) * np.sqrt(words).astype(np.float32)
    where = ([row for row, _ in pairs], columns)
    matrix = sparse.csr_matrix((weights.astype(np.float32), where), shape=offered.weights.shape)
    matrix.eliminate_zeros()
    return Phrases(offered.names, matrix)
