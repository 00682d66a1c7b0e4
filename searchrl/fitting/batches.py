"""The order of training, laid out before it begins, so that a run that was killed goes on with the batch it was in."""

from __future__ import annotations

from collections.abc import Sequence

from searchrl.device import rng

CHUNK_BATCHES = 50
"""Lists are sorted by length within chunks of so many batches: little padding, and still another order every epoch."""


def training_order(lengths: Sequence[int], batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Batches of places in ``lengths``, all epochs one after another; a last part of an epoch for its fraction.

    Shuffled, then batched with others of about their length, then the batches shuffled; by ``seed`` and epoch alone.
    """
    order: list[list[int]] = []
    whole, part = int(epochs), epochs - int(epochs)
    for epoch in range(whole + (part > 0)):
        random = rng(seed, "training order", epoch)
        shuffled = random.permutation(len(lengths)).tolist()
        size = CHUNK_BATCHES * batch_size
        chunks = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        batches = []
        for chunk in chunks:
            chunk.sort(key=lambda place: lengths[place])
            batches += [chunk[start : start + batch_size] for start in range(0, len(chunk), batch_size)]
        batches = [batches[i] for i in random.permutation(len(batches))]
        order += batches if epoch < whole else batches[: max(1, round(part * len(batches)))]
    return order
