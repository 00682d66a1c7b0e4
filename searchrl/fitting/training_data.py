"""The lists that a training command asks for: from files, or from a collection's judgments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from searchrl.device import choose_device, rng
from searchrl.errors import DataError
from searchrl.fitting.dataset_list import read_lists
from searchrl.fitting.from_qrels import lists_from_qrels
from searchrl.fitting.lists import PreferenceList, divide, joined
from searchrl.fitting.train_config import PreferenceDataConfig, TrainLoraConfig

Say = Callable[[str], None]

CPU_LISTS = 360
"""Lists that a CPU learns from unless told otherwise; about half an hour with the embedded language model."""


def training_lists(config: TrainLoraConfig, say: Say) -> tuple[list[PreferenceList], list[PreferenceList]]:
    """Lists to train on and to test on, capped as asked. Raises DataError where there are none to train on."""
    data, seed = config.data, config.fitting.seed
    train, test = _from_judgments(config, say) if data.dataset is not None else _from_files(data, seed)
    if not train:
        raise DataError("no preferences are left to train on: give more, or a smaller --test-share")
    most = data.max_train
    if most is None:
        most = CPU_LISTS if choose_device(config.device).device == "cpu" else 0
    sampled, test = _sample(train, most, seed), _sample(test, data.max_test, seed)
    drawn = f"{len(sampled)} of {len(train)}" if len(sampled) < len(train) else f"{len(train)}"
    say(f"{drawn} preference lists to train on, {len(test)} of other queries to test on")
    return sampled, test


def _from_files(data: PreferenceDataConfig, seed: int) -> tuple[list[PreferenceList], list[PreferenceList]]:
    assert data.dataset_list_train is not None
    train = joined(read_lists(data.dataset_list_train))
    if data.dataset_list_test is not None:
        return train, joined(read_lists(data.dataset_list_test))
    return divide(train, seed, data.test_share)


def _from_judgments(config: TrainLoraConfig, say: Say) -> tuple[list[PreferenceList], list[PreferenceList]]:
    from searchrl.evaluation import stages
    from searchrl.evaluation.embed import obtain_index
    from searchrl.models.loader import ModelLoader
    from searchrl.reward.gain import own_document

    data, seed = config.data, config.fitting.seed
    assert data.dataset is not None
    dataset = stages.load_collection(data.dataset, data.data_dir, None)
    found = []
    with closing(ModelLoader(device=config.device, cache=config.cache)) as loader:
        splits = [stages.judged_queries(dataset, split) for split in (data.train_split, data.test_split)]
        say(stages.describe(dataset, data.train_split, splits[0]))
        encoder = loader.encoder(data.encoder)
        index = obtain_index(dataset.corpus, encoder, loader.cache)
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


def _sample(lists: Sequence[PreferenceList], most: int, seed: int) -> list[PreferenceList]:
    """At most so many, in the order they had; 0: all."""
    if not most or len(lists) <= most:
        return list(lists)
    return [lists[i] for i in sorted(rng(seed, "sample of lists").choice(len(lists), size=most, replace=False))]
