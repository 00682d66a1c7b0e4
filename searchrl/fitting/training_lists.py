"""The lists that a training command asks for: from files, or straight from a collection's human judgments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from searchrl.data.dataset import Corpus, QuerySet
from searchrl.device import choose_device, rng
from searchrl.errors import DataError
from searchrl.fitting.candidates import draw, draw_others
from searchrl.fitting.preference_lists import PreferenceList, divide, joined, read_lists
from searchrl.fitting.training_settings import PreferenceDataConfig, TrainLoraConfig
from searchrl.retrieval.ranking import NO_DOCUMENT, IntArray

TrainAndTest = tuple[list[PreferenceList], list[PreferenceList]]

CPU_LISTS = 360
"""Lists that a CPU learns from unless told otherwise; about half an hour with the embedded language model."""


def training_lists(config: TrainLoraConfig, say: Callable[[str], None]) -> TrainAndTest:
    """Lists to train on and to test on, capped as asked. Raises DataError where there are none to train on."""
    data, seed = config.data, config.fitting.seed
    train, test = _from_judgments(config, say) if data.dataset is not None else _from_files(data, seed)
    if not train:
        raise DataError("no preferences are left to train on: give more, or a smaller test_share")
    most = data.max_train
    if most is None:
        most = CPU_LISTS if choose_device(config.compute.device).device == "cpu" else 0
    sampled, test = _sample(train, most, seed), _sample(test, data.max_test, seed)
    drawn = f"{len(sampled)} of {len(train)}" if len(sampled) < len(train) else f"{len(train)}"
    say(f"{drawn} preference lists to train on, {len(test)} of other queries to test on")
    return sampled, test


def _from_files(data: PreferenceDataConfig, seed: int) -> TrainAndTest:
    assert data.dataset_list_train is not None
    train = joined(read_lists(data.dataset_list_train))
    if data.dataset_list_test is not None:
        return train, joined(read_lists(data.dataset_list_test))
    return divide(train, seed, data.test_share)


def _from_judgments(config: TrainLoraConfig, say: Callable[[str], None]) -> TrainAndTest:
    from searchrl.evaluation import stages
    from searchrl.models.loader import ModelLoader
    from searchrl.retrieval.dense import build_dense_index
    from searchrl.reward.gain import own_document

    data, seed = config.data, config.fitting.seed
    assert data.dataset is not None
    dataset = stages.load_collection(data.dataset, data.collection.data_dir, data.collection.mirror)
    found = []
    with closing(ModelLoader(device=config.compute.device, cache=config.compute.cache)) as loader:
        splits = [stages.judged_queries(dataset, split) for split in (data.train_split, data.test_split)]
        say(stages.describe(dataset, data.train_split, splits[0]))
        encoder = loader.encoder(data.encoder)
        index = build_dense_index(dataset.corpus, encoder, loader.cache, show_progress=True, resumable=True)
        for queries in splits:
            vectors = encoder.encode(queries.texts, kind="query")
            ranking = index.search(vectors, data.negatives_depth, own_document(queries, dataset.corpus))
            found.append(
                lists_from_qrels(
                    queries,
                    dataset.corpus,
                    ranking.documents,
                    positives=data.positives,
                    negatives=data.negatives,
                    random_negatives=data.random_negatives,
                    seed=seed,
                )
            )
    return found[0], found[1]


def lists_from_qrels(
    queries: QuerySet,
    corpus: Corpus,
    ranked: IntArray,
    *,
    positives: int,
    negatives: int,
    random_negatives: int,
    seed: int,
) -> list[PreferenceList]:
    """One list a query: up to ``positives`` relevant documents, at the level of their grade, and at level 0 others.

    ranked: (n, depth) corpus indices, best first, ``NO_DOCUMENT`` past the end: ``negatives`` are drawn from what is
    not relevant there, ``random_negatives`` from the whole corpus. What people did not judge counts as not relevant, as
    in all such training; a few are. A query without a relevant or without another document is left out, and its own
    document (the one with its id) is never used. Draws depend on the query's id and ``seed`` alone.
    """
    lists = []
    for query_id, text, row in zip(queries.ids, queries.texts, ranked, strict=True):
        random = rng(seed, "preference lists", query_id)
        grades = {
            corpus.position[d]: grade
            for d, grade in queries.qrels.get(query_id, {}).items()
            if grade > 0 and d in corpus.position and d != query_id and corpus.full_text(corpus.position[d])
        }
        taken = {*grades, corpus.position.get(query_id, NO_DOCUMENT), NO_DOCUMENT}
        relevant = draw(random, sorted(grades), positives)
        others = draw(random, [int(d) for d in row if d not in taken and corpus.full_text(int(d))], negatives)
        anywhere = draw_others(random, len(corpus), random_negatives, {*taken, *others})
        others += [d for d in anywhere if corpus.full_text(d)]
        if relevant and others and text.strip():
            documents = [*relevant, *others]
            levels = [grades.get(d, 0) for d in documents]
            texts = [corpus.full_text(d) for d in documents]
            lists.append(PreferenceList([text] * len(texts), texts, levels, query_id))
    return lists


def _sample(lists: Sequence[PreferenceList], most: int, seed: int) -> list[PreferenceList]:
    """At most so many, in the order they had; 0: all."""
    if not most or len(lists) <= most:
        return list(lists)
    return [lists[i] for i in sorted(rng(seed, "sample of lists").choice(len(lists), size=most, replace=False))]
