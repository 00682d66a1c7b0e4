"""Exact dense search by inner products, the same bits for a query alone as in any batch.

That is cosine similarity where an encoder gives unit vectors; one that is made to be compared by inner products (dot)
gives vectors of other lengths, which count.

A matrix product may add up a row's terms in another order when it has other rows beside it, so its last bits differ,
near-equal documents change places, and rank fusion makes a step of that. Here a fast product only chooses candidates;
what orders documents is computed pair by pair, each over its own two vectors alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Corpus
from searchrl.errors import ModelError, reason
from searchrl.files import Part, Parts, StoredParts, load_arrays, locked, save_arrays, stored
from searchrl.progress import progress_bar
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Ranking, TopK, top_k
from searchrl.threads import lazy

BLOCK_QUERIES = 256
BLOCK_CELLS = 1 << 22
"""Scores held at once: 16 MB of float32, whatever the corpus. More would fall out of the processor's cache."""

PART_TEXTS = 1024
"""Texts in a part of an index on its way: what a kill loses at most."""

RESERVE = 28
"""Candidates beyond the k asked for, so that nearly always all that could be among the best k are there."""

BLOCK_FLOATS = 1 << 22
"""Numbers of gathered vectors held at once: 16 MB."""

PairScores = Callable[[NDArray[np.intp], IntArray], FloatArray]
"""From rows (n,) and documents (n, m), none of them ``NO_DOCUMENT``, to their exact scores (n, m)."""

TextKind = Literal["query", "document"]


class TextEncoder(Protocol):
    """What turns texts into vectors whose inner products say how alike they are; most give unit vectors."""

    @property
    def fingerprint(self) -> str:
        """Names the weights."""
        ...

    @property
    def dim(self) -> int:
        """Width of a vector."""
        ...

    def encode(self, texts: Sequence[str], *, kind: TextKind, show_progress: bool, description: str) -> FloatArray:
        """Vectors, shape (len(texts), dim)."""
        ...


def pair_products(queries: FloatArray, vectors: FloatArray, documents: IntArray) -> FloatArray:
    """Inner products of each query (n, dim) with its own documents (n, m), rows of ``vectors``; (n, m) float32."""
    n, m = documents.shape
    products = np.empty((n, m), dtype=np.float32)
    step = max(1, BLOCK_FLOATS // max(1, m * queries.shape[1]))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        gathered = np.ascontiguousarray(vectors[documents[rows]])
        products[rows] = np.einsum("nmd,nd->nm", gathered, np.ascontiguousarray(queries[rows]))
    return products


def row_products(query: FloatArray, vectors: FloatArray) -> FloatArray:
    """Inner products of one query (dim,) with every vector, (documents,), bit for bit as ``pair_products`` has them."""
    products = np.empty(len(vectors), dtype=np.float32)
    step = max(1, BLOCK_FLOATS // max(1, len(query)))
    for start in range(0, len(vectors), step):
        part = np.ascontiguousarray(vectors[start : start + step])
        products[start : start + step] = np.einsum("nmd,nd->nm", part[None], query[None])[0]
    return products


def rounding(queries: FloatArray, longest: float) -> FloatArray:
    """By how much two float32 inner products of the same vectors can differ at most, (n,); ``longest``: a norm.

    Twice the bound of Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    unit = float(np.finfo(np.float32).eps)
    return np.asarray(queries.shape[1] * unit * longest * np.linalg.norm(queries, axis=1), dtype=np.float32)


def best_of(
    candidates: Ranking, k: int, slack: FloatArray, pairs: PairScores, whole: Callable[[int], FloatArray]
) -> Ranking:
    """The k best documents by exact scores, equal ones by the lower index.

    candidates: more than k a row, by scores that are off by at most ``slack`` (n,). Where a document that is not among
    them could belong to the best, ``whole`` gives the exact scores of a row's every document, -inf for none.
    """
    documents = candidates.documents
    n, width = documents.shape
    present = documents != NO_DOCUMENT
    scores = pairs(np.arange(n), np.maximum(documents, 0))
    scores = np.where(present, scores, np.float32(-np.inf))
    order = np.lexsort((np.where(present, documents, np.iinfo(DOCUMENT).max), -scores), axis=1)[:, :k]
    found, best = np.take_along_axis(documents, order, axis=1), np.take_along_axis(scores, order, axis=1)
    if width < k:
        fill = ((0, 0), (0, k - width))
        found = np.pad(found, fill, constant_values=NO_DOCUMENT)
        best = np.pad(best, fill, constant_values=-np.inf)
    # All of a row are among the candidates where there is room left.
    doubtful = present[:, -1] & ~(best[:, -1] > candidates.scores[:, -1] + slack)
    for row in np.flatnonzero(doubtful):
        again = top_k(whole(int(row))[None], k)
        found[row], best[row] = again.documents[0], again.scores[0]
    return Ranking(found, best)


def encode_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    kind: TextKind,
    *,
    show_progress: bool = False,
    description: str = "encode",
) -> FloatArray:
    """Ask an encoder of any origin for its vectors, (len(texts), dim) float32.

    Raises ModelError where there is not one vector of ``dim`` finite numbers for each text.
    """
    found = encoder.encode(texts, kind=kind, show_progress=show_progress, description=description)
    try:
        vectors = np.asarray(found, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the encoder {encoder.fingerprint} gives no vectors ({reason(error)})") from error
    if vectors.shape != (len(texts), encoder.dim):
        wanted = f"{len(texts)} vectors of {encoder.dim} numbers are expected"
        raise ModelError(f"the encoder {encoder.fingerprint} gives an array of shape {vectors.shape}; {wanted}")
    if not np.isfinite(vectors).all():
        text = texts[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])]
        raise ModelError(f"the encoder {encoder.fingerprint} gives a vector that is not finite for {text[:60]!r}")
    return vectors


class DenseIndex:
    """Document vectors of a corpus, a row a document; memory-mapped when read from disk."""

    def __init__(self, vectors: FloatArray) -> None:
        self.vectors = vectors

    @lazy
    def longest(self) -> float:
        """The largest norm of a vector."""
        step = max(1, BLOCK_CELLS // max(1, self.vectors.shape[1]))
        parts = (self.vectors[start : start + step] for start in range(0, len(self), step))
        return max((float(np.linalg.norm(part, axis=1).max()) for part in parts), default=0.0)

    def __len__(self) -> int:
        return len(self.vectors)

    def scores(self, queries: FloatArray) -> FloatArray:
        """Inner products of queries and documents, (n, documents); the last bits depend on a query's company."""
        return np.asarray(queries @ self.vectors.T, dtype=np.float32)

    def ranges(self, queries: FloatArray, rough: FloatArray, exclude: IntArray) -> tuple[FloatArray, FloatArray]:
        """Lowest score of each query and the distance to its highest, (n,) each, by exact products.

        rough: what ``scores`` gives for the queries. exclude: as for ``search``; such a document does not count.
        """
        low, high = np.zeros(len(queries), dtype=np.float32), np.zeros(len(queries), dtype=np.float32)
        for row, slack in enumerate(rounding(queries, self.longest)):
            scores, allowed = rough[row], np.arange(len(self)) != exclude[row]
            if not allowed.any():
                continue
            lowest, highest = scores[allowed].min() + slack, scores[allowed].max() - slack
            extreme = np.flatnonzero(allowed & ((scores <= lowest) | (scores >= highest)))
            exact = pair_products(queries[row : row + 1], self.vectors, extreme[None])[0]
            low[row], high[row] = exact.min(), exact.max()
        return low, high - low

    def search(self, queries: FloatArray, k: int, exclude: IntArray) -> Ranking:
        """The k documents with the highest inner product for each query, equal ones by the lower index.

        queries: (n, dim). exclude: (n,) a document that is not to be returned, negative for none. A query's ranking
        and its scores are the same bits in any company. Takes about 64 MB beside queries and results,
        whatever the corpus. Vectors are read in place; where they are mapped from disk, once for all queries.
        """

        def whole(row: int) -> FloatArray:
            scores = row_products(queries[row], self.vectors)
            if exclude[row] >= 0:
                scores[exclude[row]] = -np.inf
            return scores

        candidates = self._candidates(queries, min(k + RESERVE, max(len(self), k)), exclude)
        slack = rounding(queries, self.longest)
        return best_of(
            candidates, k, slack, lambda rows, found: pair_products(queries[rows], self.vectors, found), whole
        )

    def _candidates(self, queries: FloatArray, k: int, exclude: IntArray) -> Ranking:
        """The k best by products that are fast and exact but for rounding."""
        n, size = len(queries), len(self)
        best = TopK(n, k)
        height = min(BLOCK_QUERIES, max(n, 1))
        width = max(1, min(BLOCK_CELLS // height, size))
        buffer = np.empty(height * width, dtype=np.float32)  # fresh memory for every block would cost page faults
        for first in range(0, size, width):
            part = self.vectors[first : first + width].T
            for start in range(0, n, height):
                rows = slice(start, min(start + height, n))
                shape = (rows.stop - start, part.shape[1])
                scores = np.matmul(queries[rows], part, out=buffer[: shape[0] * shape[1]].reshape(shape))
                column = exclude[rows] - first
                own = np.flatnonzero((column >= 0) & (column < shape[1]))
                scores[own, column[own]] = -np.inf
                best.add(rows, scores, first)
        return best.ranking


def build_dense_index(
    corpus: Corpus, encoder: TextEncoder, cache: Path | None, show_progress: bool, *, resumable: bool = False
) -> DenseIndex:
    """Encode a corpus, or map the vectors that were stored for this very corpus and encoder.

    resumable: encode in parts, so that a job that was killed goes on where it stopped (the last bits of a vector may
    depend on which texts are encoded together, so whoever has numbers to reproduce keeps to one way). A stored index
    that is damaged is rebuilt after a warning in the log. Of several processes that want the same vectors one encodes
    and the others wait. Raises OutputError where the cache cannot be written.
    """
    if cache is None:
        return DenseIndex(_encode(encoder, corpus.full_texts(), show_progress))
    name = f"{corpus.fingerprint}-{encoder.fingerprint}"
    folder, parts = cache / "index" / name, cache / "index" / f".{name}.parts"
    with locked(cache / "locks" / f"index-{name}.lock"):
        vectors = stored(folder, "index", lambda found: load_arrays(found)[0]["vectors"])
        if vectors is None:
            if resumable:
                vectors = encode_in_parts(encoder, corpus.full_texts(), StoredParts(parts), show_progress)
            else:
                vectors = _encode(encoder, corpus.full_texts(), show_progress)
            save_arrays(folder, {"vectors": vectors}, {"corpus": corpus.fingerprint, "encoder": encoder.fingerprint})
        shutil.rmtree(parts, ignore_errors=True)
    return DenseIndex(vectors)


def encode_in_parts(encoder: TextEncoder, texts: Sequence[str], parts: Parts, show_progress: bool) -> FloatArray:
    """Vectors of documents, (len(texts), dim), ``PART_TEXTS`` at a time, each part kept as soon as it is encoded.

    parts: what is finished, of this encoder and these very texts. The parts' borders are always the same, and so are
    the vectors, killed or not.
    """
    starts = range(0, len(texts), PART_TEXTS)
    with progress_bar(len(texts), "encode documents", "text", show=show_progress) as bar:
        for start in starts:
            part, name = texts[start : start + PART_TEXTS], f"document-{start}"
            if name not in parts:
                parts[name] = Part({"vectors": _encode(encoder, part, show_progress=False)})
            bar.update(len(part))
    none = np.zeros((0, encoder.dim), dtype=np.float32)
    return np.concatenate([parts[f"document-{start}"].arrays["vectors"] for start in starts] or [none])


def _encode(encoder: TextEncoder, texts: Sequence[str], show_progress: bool) -> FloatArray:
    return encode_texts(encoder, texts, "document", show_progress=show_progress, description="encode documents")
