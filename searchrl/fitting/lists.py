"""The lists that a training command asks for, what training minimises on them, and how well a model keeps them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from searchrl.config import dataset_names
from searchrl.data.dataset import Corpus, QuerySet
from searchrl.data.own_document import own_document
from searchrl.device import choose_device, rng
from searchrl.errors import DataError
from searchrl.evaluation.measures import reward_quality
from searchrl.fitting.candidates import draw, draw_others, scores_of
from searchrl.fitting.records import PreferenceList, held_out, read_lists
from searchrl.fitting.settings import LossName, PreferenceDataConfig, TrainLoraConfig
from searchrl.retrieval.ranking import NO_DOCUMENT, IntArray
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.reward_model import RewardModel

if TYPE_CHECKING:
    from torch import Tensor


logger = logging.getLogger(__name__)

TrainAndTest = tuple[list[PreferenceList], list[PreferenceList]]


Judged = tuple[str, str, bool]
"""A query, a document, and whether it is relevant."""


@dataclass(frozen=True)
class TrainingLists:
    """What a training command learns from, and what it is measured on."""

    train: list[PreferenceList]
    test: list[PreferenceList]
    retrieved: list[Judged]
    """What a first stage finds for queries that are not trained on, as relevant as it is: scores become probabilities
    on it. Where there are no rankings, the pairs of ``test``.
    """


DRAWS = 20
"""Draws of what is held out, before all is trained on."""

CPU_LISTS = 360
"""Lists that a CPU learns from unless told otherwise; about half an hour with the embedded language model."""

CALIBRATION_QUERIES, CALIBRATION_DEPTH = 40, 10
"""Queries of each collection, and documents of each of their two rankings, on which scores become probabilities."""


def training_lists(
    config: TrainLoraConfig, say: Callable[[str], None], given: Sequence[PreferenceList] | None = None
) -> TrainingLists:
    """Lists to train on and to test on, capped as asked. Raises DataError where there are none to train on.

    given: in the place of those in ``dataset_list_train``.
    """
    data, seed = config.data, config.fitting.seed
    sources = _from_judgments(config, say) if data.dataset is not None else [_from_files(data, seed, given)]
    most = data.max_train
    if most is None:
        most = CPU_LISTS if choose_device(config.compute.device).device == "cpu" else 0
    train = _sample([source.train for source in sources], most, seed)
    test = _sample([source.test for source in sources], data.max_test, seed)
    if not train:
        raise DataError("no preferences are left to train on: give more, or a smaller test_share")
    there = sum(len(source.train) for source in sources)
    drawn = f"{len(train)} of {there}" if len(train) < there else f"{there}"
    say(f"{drawn} preference lists to train on, {len(test)} of other queries to test on")
    if data.dataset is not None:
        return TrainingLists(train, test, [pair for source in sources for pair in source.retrieved])
    pairs = [zip(one.queries, one.documents, [x == max(one.levels) for x in one.levels], strict=True) for one in test]
    return TrainingLists(train, test, list(chain.from_iterable(pairs)))


def _from_files(data: PreferenceDataConfig, seed: int, given: Sequence[PreferenceList] | None) -> TrainingLists:
    assert data.dataset_list_train is not None
    train = joined(read_lists(data.dataset_list_train) if given is None else given)
    if data.dataset_list_test is not None:
        test = joined(read_lists(data.dataset_list_test))
    else:
        train, test = divide(train, seed, data.test_share)
    return TrainingLists(train, test, [])


def _from_judgments(config: TrainLoraConfig, say: Callable[[str], None]) -> list[TrainingLists]:
    """The lists of each collection."""
    from searchrl.data.dataset import train_from_dev
    from searchrl.evaluation import stages
    from searchrl.models.loader import ModelLoader
    from searchrl.retrieval.dense import build_dense_index
    from searchrl.retrieval.lexical import LexicalIndex
    from searchrl.retrieval.memory import MemoryIndex

    data, seed = config.data, config.fitting.seed
    assert data.dataset is not None
    sources = []
    with closing(ModelLoader(device=config.compute.device, cache=config.compute.cache)) as loader:
        encoder = loader.encoder(data.encoder)
        for name in dataset_names(data.dataset):
            where = data.collection
            dataset = stages.load_collection(name, where.data_dir, where.mirror, where.own_document)
            if data.train_from_dev and "train" not in dataset.splits:
                dataset = train_from_dev(dataset, seed)
            train, test = (stages.judged_queries(dataset, split) for split in (data.train_split, data.test_split))
            say(stages.describe(dataset, data.train_split, train))
            index = build_dense_index(dataset.corpus, encoder, loader.cache, show_progress=True, resumable=True)
            both = MemoryIndex(index, LexicalIndex(dataset.corpus))
            first_stage = Retriever(encoder, both, 0.0, data.negatives_depth)
            few = test.only(draw(rng(seed, "calibration"), range(len(test)), CALIBRATION_QUERIES))
            sources.append(
                TrainingLists(
                    _lists(name, train, dataset.corpus, first_stage, data, seed),
                    _lists(name, test, dataset.corpus, first_stage, data, seed),
                    _retrieved(few, dataset.corpus, first_stage),
                )
            )
    return sources


def _retrieved(queries: QuerySet, corpus: Corpus, first_stage: Retriever) -> list[Judged]:
    """The tops of the dense and the BM25 ranking, and what people say of them."""
    judged = []
    tops = _both_tops(queries, corpus, first_stage, CALIBRATION_DEPTH)
    for query_id, text, row in zip(queries.ids, queries.texts, tops, strict=True):
        grades = queries.qrels.get(query_id, {})
        documents = dict.fromkeys(row[row != NO_DOCUMENT].tolist())
        judged += [(text, corpus.full_text(d), grades.get(corpus.ids[d], 0) > 0) for d in documents]
    return judged


def _both_tops(queries: QuerySet, corpus: Corpus, first_stage: Retriever, depth: int) -> IntArray:
    """(n, 2 depth) documents: the first of the dense ranking, then those of the BM25 ranking."""
    own = own_document(queries, corpus)
    tops = [first_stage.search(first_stage.queries(queries.texts, share), own) for share in (0.0, 1.0)]
    return np.concatenate([top.documents[:, :depth] for top in tops], axis=1)


def _lists(
    name: str, queries: QuerySet, corpus: Corpus, first_stage: Retriever, data: PreferenceDataConfig, seed: int
) -> list[PreferenceList]:
    """``lists_from_qrels`` over the tops of both rankings, in groups that no other collection has."""
    ranked = _both_tops(queries, corpus, first_stage, data.negatives_depth)
    return [replace(one, group=f"{name}:{one.group}") for one in lists_from_qrels(queries, corpus, ranked, data, seed)]


def joined(lists: Sequence[PreferenceList]) -> list[PreferenceList]:
    """The same preferences, pairs of one query with the same better document as one list: it is scored but once."""
    kept: dict[object, PreferenceList] = {}
    for place, one in enumerate(lists):
        key: object = place
        if len(one) == 2 and one.levels[0] > one.levels[1] and one.queries[0] == one.queries[1]:
            key = (one.group, one.family, one.queries[0], one.documents[0])
        if key in kept:
            first, worse = kept[key], one.documents[1]
            if worse not in first.documents:
                queries, documents = [*first.queries, one.queries[1]], [*first.documents, worse]
                kept[key] = replace(first, queries=queries, documents=documents, levels=[*first.levels, 0])
        else:
            kept[key] = one if key is place else replace(one, levels=[1, 0])
    return list(kept.values())


def fingerprint(lists: Iterable[PreferenceList]) -> str:
    """16 hex digits that change with any text, level or place."""
    digest = hashlib.sha256()
    for one in lists:
        fields = [list(one.queries), list(one.documents), list(one.levels), one.group]
        digest.update(json.dumps(fields).encode())
    return digest.hexdigest()[:16]


def divide(lists: Sequence[PreferenceList], seed: int, share: float) -> TrainAndTest:
    """Lists to train on and lists to test on; no family is in both.

    Where the first draw leaves one side empty, another is made: ``judge_dataset`` has taken out of its lists what the
    first draw would take. Where no draw does (a single family, say), all are trained on and a warning is logged.
    """
    for drawn in ("held out", *(f"held out again {i}" for i in range(DRAWS))):
        tested = [held_out(one.family or one.group, seed, share, drawn) for one in lists]
        if 0 < sum(tested) < len(lists) or share <= 0:
            train = [one for one, test in zip(lists, tested, strict=True) if not test]
            return train, [one for one, test in zip(lists, tested, strict=True) if test]
    logger.warning(
        "Nothing of %d lists is held out at test_share %s, so nothing says what training does: give other lists to "
        "test on, or a larger share",
        len(lists),
        share,
    )
    return list(lists), []


def lists_from_qrels(
    queries: QuerySet, corpus: Corpus, ranked: IntArray, data: PreferenceDataConfig, seed: int
) -> list[PreferenceList]:
    """One list a query: up to ``positives`` relevant documents, at the level of their grade, and at level 0 others.

    ranked: (n, depth) corpus indices, repeated ones count once, ``NO_DOCUMENT`` where there is none: ``negatives`` are
    drawn from what is not relevant there, ``random_negatives`` from the whole corpus. What people did not judge counts
    as not relevant, as in all such training; a few are. A query without a relevant or without another document is left
    out, and its own document (see ``own_document``) is never used. Draws depend on the query's id and ``seed`` alone.
    """
    lists = []
    own = own_document(queries, corpus).tolist()
    for query_id, text, itself, row in zip(queries.ids, queries.texts, own, ranked, strict=True):
        random = rng(seed, "preference lists", query_id)
        grades = {
            corpus.position[d]: grade
            for d, grade in queries.qrels.get(query_id, {}).items()
            if grade > 0 and d in corpus.position and corpus.full_text(corpus.position[d])
        }
        taken = {*grades, itself, NO_DOCUMENT}
        relevant = draw(random, sorted(grades), data.positives)
        others = draw(
            random, [d for d in dict.fromkeys(row.tolist()) if d not in taken and corpus.full_text(d)], data.negatives
        )
        anywhere = draw_others(random, len(corpus), data.random_negatives, {*taken, *others})
        others += [d for d in anywhere if corpus.full_text(d)]
        if relevant and others and text.strip():
            documents = [*relevant, *others]
            levels = [grades.get(d, 0) for d in documents]
            texts = [corpus.full_text(d) for d in documents]
            lists.append(PreferenceList([text] * len(texts), texts, levels, query_id))
    return lists


def _sample(sources: Sequence[Sequence[PreferenceList]], most: int, seed: int) -> list[PreferenceList]:
    """At most so many, drawn at random, in the order they had; 0: all. Each source gives the same number, or all of
    its lists where it has fewer.
    """
    room = most or sum(map(len, sources))
    kept: dict[int, list[PreferenceList]] = {}
    for source in sorted(range(len(sources)), key=lambda i: len(sources[i])):
        kept[source] = draw(rng(seed, "sample of lists"), sources[source], room // (len(sources) - len(kept)))
        room -= len(kept[source])
    return [one for source in range(len(sources)) for one in kept[source]]


def pairwise_loss(scores: Tensor, levels: Tensor) -> Tensor:
    """Mean over all ordered pairs of -log P(better beats worse), P by Bradley and Terry (1952): a logistic of the
    difference of scores.

    scores: (n,). levels: (n,) integers, not all equal. Returns a scalar.
    """
    from torch.nn.functional import softplus

    better = levels[:, None] > levels[None, :]
    return softplus(scores[None, :] - scores[:, None])[better].mean()


def listwise_loss(scores: Tensor, levels: Tensor) -> Tensor:
    """-log-likelihood of the list's order under the Plackett-Luce model (Plackett 1975), per choice made.

    ListMLE (Xia, Liu, Wang, Zhang, Li 2008, "Listwise approach to learning to rank: theory and algorithm"): the best is
    chosen among all, the next among the rest, and so on. Of equals, each is chosen over what lies below it, and never
    over one another; so one positive among negatives is a softmax cross-entropy, and a pair is Bradley and Terry's.

    scores: (n,). levels: (n,) integers, not all equal. Returns a scalar.
    """
    import torch

    rivals = (levels[:, None] > levels[None, :]) | torch.eye(len(levels), dtype=torch.bool, device=levels.device)
    chosen = rivals.sum(1) > 1
    among = scores[None, :].expand(len(scores), -1).masked_fill(~rivals, float("-inf")).logsumexp(1)
    return (among - scores)[chosen].mean()


def loss_across(scores: Tensor, levels: list[Tensor]) -> Tensor | None:
    """Bradley and Terry's loss between lists: what is best in one should outscore what is worst in each other one.

    Without it scores have no common scale: only differences within a list are learned. What lies between best and worst
    is left out, for levels of different lists need not mean the same. scores: (total,), list after list. Returns a
    scalar; None for a single list.
    """
    import torch
    from torch.nn.functional import softplus

    if len(levels) < 2:
        return None
    best = torch.cat([level == level.max() for level in levels])
    worst = torch.cat([level == level.min() for level in levels])
    sizes = torch.tensor([len(level) for level in levels], device=best.device)
    of = torch.arange(len(levels), device=best.device).repeat_interleave(sizes)
    compared = best[:, None] & worst[None, :] & (of[:, None] != of[None, :])
    return softplus(scores[None, :] - scores[:, None])[compared].mean()


def list_losses(name: LossName, scores: Tensor, levels: list[Tensor], across: bool = False) -> Tensor:
    """Mean loss of several lists whose scores (total,) stand one after another; with ``across``, the mean of that and
    of the loss between them.
    """
    import torch

    loss = pairwise_loss if name == "pairwise" else listwise_loss
    parts = torch.split(scores, [len(part) for part in levels])
    within = torch.stack([loss(part, level) for part, level in zip(parts, levels, strict=True)]).mean()
    between = loss_across(scores, levels) if across else None
    return within if between is None else (within + between) / 2


@dataclass(frozen=True)
class PreferenceQuality:
    """Agreement with preferences: .5 is chance throughout. NaN where undefined."""

    accuracy: float
    """Share of all (better, worse) pairs that the scores order so; equal scores count half."""
    auc: float
    """Chance that what is best in a list outscores what is not, over all lists together."""
    auc_within: float
    """The same within a group (a query), averaged over groups."""
    margin: float
    """Mean difference of scores, better minus worse."""
    lists: int
    pairs: int

    def __str__(self) -> str:
        counts = f"{self.pairs} pairs in {self.lists} lists"
        return f"accuracy {self.accuracy:.3f}, AUC {self.auc:.3f} ({self.auc_within:.3f} within a query; {counts})"


def preference_quality(reward_model: RewardModel, lists: Sequence[PreferenceList]) -> PreferenceQuality:
    """Score every distinct (query, document) of the lists once, in one call, and compare. At least one list."""
    score_of = scores_of(reward_model, (member for one in lists for member in one.members))
    differences = []
    pools: dict[str, dict[tuple[str, str], bool]] = {}
    for one in lists:
        values = [score_of[member] for member in one.members]
        differences += [values[i] - values[j] for i, j in one.pairs]
        best = max(one.levels)
        pool = pools.setdefault(one.group, {})
        for member, level in zip(one.members, one.levels, strict=True):
            pool[member] = pool.get(member, False) or level == best
    width = max(len(pool) for pool in pools.values())
    matrix, relevant = np.full((len(pools), width), np.nan), np.zeros((len(pools), width))
    for row, pool in enumerate(pools.values()):
        matrix[row, : len(pool)] = [score_of[member] for member in pool]
        relevant[row, : len(pool)] = list(pool.values())
    judged = reward_quality(matrix, relevant)
    gaps = np.array(differences)
    accuracy = float((gaps > 0).mean() + (gaps == 0).mean() / 2)
    return PreferenceQuality(accuracy, judged.auc, judged.auc_within, float(gaps.mean()), len(lists), len(gaps))
