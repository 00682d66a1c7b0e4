"""A collection's document vectors, encoded so that a killed job goes on, and exact search of them on any device."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.env.parts import Part, Parts, StoredParts
from searchrl.files import locked
from searchrl.retrieval.dense import DenseIndex, TextEncoder, TextKind, build_dense_index
from searchrl.retrieval.ranking import NO_DOCUMENT, FloatArray, IntArray, Ranking

PART_TEXTS = 1024
"""Texts in a part: what a kill loses at most."""
BLOCK_CELLS = 1 << 27
"""Scores held on a device at once: 512 MB."""


def obtain_index(corpus: Corpus, encoder: TextEncoder, cache: Path | None) -> DenseIndex:
    """Encode a corpus, or map the vectors that are stored for it; a job that was killed goes on where it stopped.

    Of several processes that want the same vectors one encodes and the others wait. Raises OutputError where the cache
    cannot be written.
    """
    if cache is None:
        return build_dense_index(corpus, encoder, None, show_progress=True)
    name = f"{corpus.fingerprint}-{encoder.fingerprint}"
    parts = cache / "index" / f".{name}.parts"
    with locked(cache / "locks" / f"index-{name}.lock"):
        index = build_dense_index(corpus, PartwiseEncoder(encoder, StoredParts(parts)), cache, show_progress=True)
        shutil.rmtree(parts, ignore_errors=True)
    return index


class PartwiseEncoder:
    """A ``TextEncoder`` in front of another: every part of a call is kept as soon as it is encoded.

    parts: what is finished, of this encoder and these very texts (their caller's name for the folder sees to that).
    size: texts in a part. The parts' borders are always the same, and so are the vectors, killed or not.
    """

    def __init__(self, encoder: TextEncoder, parts: Parts, size: int = PART_TEXTS) -> None:
        self._encoder = encoder
        self._parts = parts
        self._size = size

    @property
    def fingerprint(self) -> str:
        """The encoder's own."""
        return self._encoder.fingerprint

    @property
    def dim(self) -> int:
        """The encoder's own."""
        return self._encoder.dim

    def encode(self, texts: Sequence[str], *, kind: TextKind, show_progress: bool, description: str) -> FloatArray:
        """Unit vectors, shape (len(texts), dim)."""
        from tqdm import tqdm

        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        names = []
        with tqdm(total=len(texts), desc=description, unit="text", disable=not show_progress) as bar:
            for start in range(0, len(texts), self._size):
                part, name = texts[start : start + self._size], f"{kind}-{start}"
                if name not in self._parts:
                    vectors = self._encoder.encode(part, kind=kind, show_progress=False, description=description)
                    self._parts[name] = Part({"vectors": vectors})
                names.append(name)
                bar.update(len(part))
        return np.concatenate([self._parts[name].arrays["vectors"] for name in names])


def search(index: DenseIndex, queries: FloatArray, k: int, exclude: IntArray, device: str) -> Ranking:
    """``DenseIndex.search`` on a device of torch's; on the CPU that itself, which is faster there.

    queries: (n, dim). exclude: (n,) a document that is not to be returned, negative for none. Of documents with the
    very same score at the end of a list, any may be returned by a GPU; within it, they stand by the lower index.
    """
    if device == "cpu":
        return index.search(queries, k, exclude)
    return search_with_torch(index, queries, k, exclude, device)


def search_with_torch(index: DenseIndex, queries: FloatArray, k: int, exclude: IntArray, device: str) -> Ranking:
    """See ``search``; any device."""
    import torch

    vectors = torch.from_numpy(np.array(index.vectors)).to(device)
    height, found = max(1, BLOCK_CELLS // max(1, len(index))), min(k, len(index))
    documents = np.full((len(queries), k), NO_DOCUMENT, dtype=np.int32)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(queries), height):
        rows = slice(start, start + height)
        block = torch.from_numpy(np.ascontiguousarray(queries[rows])).to(device) @ vectors.T
        own = np.flatnonzero(exclude[rows] >= 0)
        block[own.tolist(), exclude[rows][own].tolist()] = -torch.inf
        values, places = (tensor.cpu().numpy() for tensor in block.topk(found, dim=1))
        order = np.lexsort((places, -values), axis=1)
        scores[rows, :found] = np.take_along_axis(values, order, axis=1)
        documents[rows, :found] = np.take_along_axis(places, order, axis=1)
    documents[np.isneginf(scores)] = NO_DOCUMENT
    return Ranking(documents, scores)
