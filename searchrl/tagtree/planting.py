"""From documents' tags to a tag tree: embed the tags, let documents join tags like them, cluster, name the nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray
from searchrl.tagtree.choosing import best_phrases
from searchrl.tagtree.clustering import Shape, cluster
from searchrl.tagtree.phrases import document_phrases
from searchrl.tagtree.settings import TagSettings, TreeSettings
from searchrl.tagtree.tree import NOTHING, TagTree

Embed = Callable[[Sequence[str]], FloatArray]
"""Texts to unit vectors."""

SEED = 42


def plant(
    tags_of: Sequence[Sequence[str]],
    documents: FloatArray,
    embed: Embed,
    settings: TreeSettings,
    seed: int,
) -> TagTree:
    """The tree over documents with these tags. documents: (n, dim) unit vectors. embed: unit vectors of tags' texts.

    Some document must have a tag.
    """
    tags = sorted({tag for own in tags_of for tag in own})
    given = postings(tags_of, tags)
    vectors = pooled(given, documents, embed, tags, settings.text_share)
    joined = join_nearest(given, documents, vectors, settings.nearest)
    shape = cluster(vectors, settings.branching, settings.leaf_size, seed)
    nodes = np.stack([_unit(vectors[members].mean(axis=0, keepdims=True))[0] for members in shape.members])
    chosen = _representatives(shape, vectors, nodes, np.diff(given.indptr), settings.representatives)
    return TagTree(tags, nodes, shape.parent, shape.first, shape.count, shape.tag, chosen, joined)


def keyphrase_tree(texts: Sequence[str], documents: FloatArray, embed: Embed) -> TagTree:
    """The tree over documents tagged with their own phrases, by default settings. Raises DataError without phrases."""
    settings = TagSettings()
    least = settings.least(len(texts))
    tags_of = best_phrases(document_phrases(texts, least, settings.max_share), settings.tags_per_document, least)
    return plant(tags_of, documents, embed, TreeSettings(), SEED)


def as_corpus(tags: Sequence[str]) -> Corpus:
    """Tags as documents, so that their vectors are kept as those are."""
    return Corpus([str(i) for i in range(len(tags))], [""] * len(tags), tags)


def postings(tags_of: Sequence[Sequence[str]], tags: Sequence[str]) -> Any:
    """Which documents have which tag: (tags, documents) CSR of ones."""
    from scipy import sparse

    place = {tag: i for i, tag in enumerate(tags)}
    rows = [place[tag] for own in tags_of for tag in own]
    columns = np.repeat(np.arange(len(tags_of)), [len(own) for own in tags_of])
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(tags), len(tags_of)))


def pooled(given: Any, documents: FloatArray, embed: Embed, tags: Sequence[str], share: float) -> FloatArray:
    """The tags' vectors, (tags, dim): the mean of their documents', mixed with a share of their own texts'."""
    vectors = _unit(np.asarray(given @ np.asarray(documents), dtype=np.float32))
    return _unit((1 - share) * vectors + share * embed(tags)) if share else vectors


def join_nearest(given: Any, documents: FloatArray, vectors: FloatArray, nearest: int) -> Any:
    """The postings with each document in its ``nearest`` tags besides; in one at least, if it has none of its own.

    What two documents have in common need not stand in both as the same words. As a document in several cells of an
    inverted file, it is then found by more ways (Chen et al. 2021, SPANN).
    """
    from scipy import sparse

    anywhere = np.full(len(documents), NO_DOCUMENT, dtype=np.int32)
    near = DenseIndex(vectors).search(np.asarray(documents), min(max(nearest, 1), len(vectors)), anywhere).documents
    rows = np.arange(len(documents)) if nearest else np.flatnonzero(np.asarray(given.sum(axis=0)).ravel() == 0)
    tags, columns = near[rows].ravel(), np.repeat(rows, near.shape[1])
    more = sparse.csr_matrix((np.ones(len(tags), np.float32), (tags, columns)), shape=given.shape)
    joined = (given + more).sign().tocsr()
    joined.sort_indices()
    return joined


def _representatives(shape: Shape, vectors: FloatArray, nodes: FloatArray, sizes: IntArray, count: int) -> IntArray:
    chosen = np.full((len(nodes), count), NOTHING, dtype=np.int32)
    weights = np.log1p(sizes)
    for node, members in enumerate(shape.members):
        best = np.argsort(-(vectors[members] @ nodes[node]) * weights[members], kind="stable")[:count]
        chosen[node, : len(best)] = members[best]
    return chosen


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
