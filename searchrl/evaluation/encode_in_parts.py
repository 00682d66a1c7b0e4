"""Encode a large collection so that a job that was killed goes on from the last finished part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from searchrl.env.parts import Part, Parts
from searchrl.retrieval.dense import TextEncoder, TextKind
from searchrl.retrieval.ranking import FloatArray

PART_TEXTS = 1024
"""Texts in a part: what a kill loses at most."""


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
