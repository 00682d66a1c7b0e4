"""Approximate dense search with FAISS, for corpora so large that comparing every document takes too long.

An inverted file (IVF; Jégou, Douze and Schmid 2011): k-means sorts the vectors into lists, and a query is compared only
with the documents of the lists nearest to it. How many lists are probed is settled when the index is built: as few as
find 95% of what exact search finds. FAISS keeps a copy of the vectors in memory; on disk lie only the lists.
"""

from __future__ import annotations

import importlib
import logging
import math
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.errors import ConfigError
from searchrl.extras import install_command
from searchrl.files import load_arrays, save_arrays, stored
from searchrl.retrieval.dense import DenseIndex, TextEncoder
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Ranking

logger = logging.getLogger(__name__)

RECALL_DEPTH = 100
TARGET_RECALL = 0.95
SAMPLE = 256
"""Documents whose own vectors are the queries that recall is measured with."""

_BLOCK = 1 << 16
_SEED = 0


class FaissIndex(MemoryIndex):
    """The index in memory, but where vectors alone decide, only the nearest lists are searched."""

    def __init__(self, dense: DenseIndex, words: LexicalIndex, lists: ApproximateIndex) -> None:
        super().__init__(dense, words)
        self.lists = lists

    @property
    def description(self) -> Mapping[str, object]:
        """How its lists are searched."""
        return {"approximate": self.lists.description}

    def nearest(self, vectors: FloatArray, k: int, exclude: IntArray) -> Ranking:
        """See ``ApproximateIndex.search``."""
        return self.lists.search(vectors, k, exclude)


class ApproximateIndex:
    """The vectors of a dense index in inverted lists.

    centroids: (lists, dim) float32. member: (documents,) int32, the list of each document. probes: lists a query looks
    into. recall: share of the exact top 100 that this finds, mean over a sample of the corpus's own vectors.
    """

    def __init__(self, dense: DenseIndex, centroids: FloatArray, member: IntArray, probes: int, recall: float) -> None:
        faiss = import_faiss()
        self.centroids, self.member, self.probes, self.recall = centroids, member, probes, recall
        dim = dense.vectors.shape[1]
        quantizer = faiss.IndexFlatIP(dim)
        quantizer.add(np.ascontiguousarray(centroids))
        self._index = faiss.IndexIVFFlat(quantizer, dim, len(centroids), faiss.METRIC_INNER_PRODUCT)
        self._index.is_trained = True
        for start in range(0, len(dense), _BLOCK):
            vectors = np.ascontiguousarray(dense.vectors[start : start + _BLOCK])
            lists = member[start : start + _BLOCK].astype(np.int64)
            self._index.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(lists))

    @property
    def description(self) -> str:
        """What shapes its rankings, and how good they are."""
        lists = f"{self.probes} of {len(self.centroids)} lists probed"
        return f"FAISS IVF, {lists}, recall@{RECALL_DEPTH} {self.recall:.3f} on the corpus's own vectors"

    def search(self, queries: FloatArray, k: int, exclude: IntArray) -> Ranking:
        """As ``DenseIndex.search``, but some of the best may be missing, and rows short where lists hold too few."""
        depth = min(k + 1, len(self.member))  # one in reserve for the document that is excluded
        self._index.nprobe = self.probes
        scores, found = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), depth)
        absent = (found < 0) | (found == exclude[:, None])
        scores, found = np.where(absent, -np.inf, scores), np.where(absent, NO_DOCUMENT, found)
        order = np.lexsort((found, -scores), axis=1)[:, :k]
        fill = ((0, 0), (0, k - order.shape[1]))
        documents = np.pad(np.take_along_axis(found, order, axis=1), fill, constant_values=NO_DOCUMENT)
        best = np.pad(np.take_along_axis(scores, order, axis=1), fill, constant_values=-np.inf)
        return Ranking(documents, best.astype(np.float32))


def build_approximate_index(
    corpus: Corpus, encoder: TextEncoder, dense: DenseIndex, cache: Path | None
) -> ApproximateIndex:
    """Sort a corpus's vectors into lists, or read the lists that were stored for it; recall is told in the log.

    Raises ConfigError where FAISS is not installed.
    """
    folder = cache / "index" / f"{corpus.fingerprint}-{encoder.fingerprint}-ivf" if cache else None
    index = stored(folder, "approximate index", partial(_read, dense)) if folder else None
    if index is None:
        index = _built(dense)
        if folder:
            arrays = {"centroids": index.centroids, "member": index.member}
            save_arrays(folder, arrays, {"probes": index.probes, "recall": index.recall})
    logger.info("Approximate search: %s.", index.description)
    return index


def import_faiss() -> Any:
    """FAISS, or a ConfigError that says how to install it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's own types, from Python 3.12 on
            return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigError(
            f"`ann_above` needs FAISS ({error}); {install_command('faiss')}, or search exactly with `ann_above` 0"
        ) from error


def _read(dense: DenseIndex, folder: Path) -> ApproximateIndex:
    arrays, meta = load_arrays(folder)
    return ApproximateIndex(dense, arrays["centroids"], arrays["member"], meta["probes"], meta["recall"])


def _built(dense: DenseIndex) -> ApproximateIndex:
    faiss = import_faiss()
    size, dim = dense.vectors.shape
    lists = max(1, min(4 * math.isqrt(size), size // 40))  # FAISS's advice: 4 to 16 sqrt(n), 39 documents a list
    means = faiss.Kmeans(dim, lists, niter=10, seed=_SEED, spherical=True, max_points_per_centroid=64)
    means.train(dense.vectors)
    blocks = range(0, size, _BLOCK)
    nearest = [means.index.search(np.ascontiguousarray(dense.vectors[b : b + _BLOCK]), 1)[1][:, 0] for b in blocks]
    index = ApproximateIndex(dense, means.centroids, np.concatenate(nearest).astype(np.int32), probes=1, recall=0.0)
    sample = np.sort(np.random.default_rng(_SEED).permutation(size)[:SAMPLE])
    queries, nobody = dense.vectors[sample], np.full(len(sample), NO_DOCUMENT, dtype=DOCUMENT)
    exact = dense.search(queries, min(RECALL_DEPTH, size), nobody).documents
    while True:
        found = index.search(queries, exact.shape[1], nobody).documents
        index.recall = float(np.mean([np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)]))
        if index.recall >= TARGET_RECALL or index.probes >= lists:
            return index
        index.probes = min(2 * index.probes, lists)
