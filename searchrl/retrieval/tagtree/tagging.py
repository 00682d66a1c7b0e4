"""Tags for each document of a corpus: its own phrases by their weight, or by a language model.

A model that follows instructions writes tags; a small one chooses among the documents' own phrases by likelihood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import DataError, ModelError
from searchrl.models.language_model import LanguageModel
from searchrl.models.prompts import Prompts, beginning
from searchrl.retrieval.tagtree.phrases import MOST_WORDS, Phrases, best_phrases, document_phrases, normal
from searchrl.retrieval.tagtree.settings import TagSettings

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

    asked = [prompts.tags.format(document=beginning(texts[row], SHOWN_WORDS), count=count) for row in rows]
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
    contexts = {row: prompts.tag_context.format(document=beginning(texts[row], SHOWN_WORDS)) for row in rows}
    columns = np.array([column for _, column in pairs], dtype=np.int32)
    used, place = np.unique(columns, return_inverse=True)
    empty = prompts.tag_context.format(document="")
    tags = {int(c): prompts.tag_continuation.format(tag=offered.names[c]) for c in used}
    before = lm.continuation_logprobs([empty] * len(used), [tags[int(c)] for c in used])
    after = lm.continuation_logprobs([contexts[row] for row, _ in pairs], [tags[column] for _, column in pairs])
    words = np.array([offered.names[column].count(" ") + 1 for column in columns])
    weights = np.maximum(after - before[place], 0.0) * np.sqrt(words).astype(np.float32)
    where = ([row for row, _ in pairs], columns)
    matrix = sparse.csr_matrix((weights.astype(np.float32), where), shape=offered.weights.shape)
    matrix.eliminate_zeros()
    return Phrases(offered.names, matrix)
