"""Have a reward model score the documents of many rankings, batch by batch, under a bar."""

from __future__ import annotations

from collections.abc import Sequence

from searchrl.data.dataset import Corpus
from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.reward.pool import JudgedPool
from searchrl.reward.reward_model import RewardModel


def score_pairs(
    reward_model: RewardModel, corpus: Corpus, texts: Sequence[str], documents: IntArray, batch_size: int
) -> FloatArray:
    """Score (n, k) documents for n queries: (n, k), NaN where there is no document.

    batch_size: pairs scored together, about; those of one document stay together, so that a language model reads it
    once for all queries. The batches are always the same, and whole batches are what a reward model with a memory
    (``reward/reward_model.py``) keeps: a job that was killed gives the scores that it would have given.
    """
    from tqdm import tqdm

    pool = JudgedPool(reward_model, corpus, texts)
    batches = pool.batches(documents, batch_size)
    with tqdm(total=sum(map(len, batches)), desc="rerank", unit="pair") as bar:
        for pairs in batches:
            pool.learn(pairs, pool.score(pairs))
            bar.update(len(pairs))
    return pool.lookup(documents)
