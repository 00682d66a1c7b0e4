from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.data.dataset import Corpus, Dataset, QuerySet, train_from_dev, with_dev_split
from searchrl.errors import DataError


def queries(ids):
    return QuerySet(list(ids), [f"text of {i}" for i in ids], {i: {"d": 1} for i in ids})


def dataset(**splits):
    return Dataset("x", Corpus(["d"], [""], ["t"]), {s: queries(ids) for s, ids in splits.items()}, ("earlier",))


NUMBERS = [str(i) for i in range(500)]


def test_dev_is_a_fifth_of_train_taken_out_of_it():
    source = dataset(train=NUMBERS, test=["t"])
    split = with_dev_split(source, 42)
    train, dev = split.splits["train"], split.splits["dev"]
    assert sorted([*train.ids, *dev.ids]) == sorted(NUMBERS)
    assert 70 <= len(dev) <= 130
    for part in (train, dev):
        assert part == queries(part.ids), "texts and judgments go with their query"
        assert list(part.ids) == [i for i in NUMBERS if i in set(part.ids)], "order is kept"
    assert list(split.splits) == ["train", "dev", "test"]
    assert split.splits["test"] is source.splits["test"]
    assert split.notes[0] == "earlier"
    assert f"dev: {len(dev)} of 500 train queries, taken out with seed 42" in split.notes[1]


def test_at_most_200():
    split = with_dev_split(dataset(train=[str(i) for i in range(3000)]), 0)
    assert len(split.splits["dev"]) == 200
    assert len(split.splits["train"]) == 2800


def test_the_seed_decides():
    def dev(seed):
        return list(with_dev_split(dataset(train=NUMBERS), seed).splits["dev"].ids)

    assert dev(1) == dev(1) != dev(2)


def test_the_same_in_every_process_and_version():
    """Numbers reported on dev stand only as long as dev stays the same."""
    split = with_dev_split(dataset(train=[str(i) for i in range(30)]), 42)
    assert list(split.splits["dev"].ids) == ["1", "6", "7", "10", "19", "23", "24", "28"]


@settings(deadline=None)
@given(st.sets(st.text(max_size=5), min_size=10, max_size=60), st.sets(st.text(max_size=5), max_size=20))
def test_more_queries_do_not_move_the_others(before, more):
    old = set(with_dev_split(dataset(train=sorted(before)), 7).splits["dev"].ids)
    new = set(with_dev_split(dataset(train=sorted(before | more)), 7).splits["dev"].ids)
    if len(old) > 1:  # a share that is empty is filled by force
        assert new & before == old


@settings(deadline=None)
@given(st.sets(st.text(max_size=4), min_size=2, max_size=8), st.integers())
def test_neither_side_is_ever_empty(ids, seed):
    split = with_dev_split(dataset(train=sorted(ids)), seed)
    assert len(split.splits["dev"]) >= 1
    assert len(split.splits["train"]) >= 1


def test_a_dev_split_that_exists_stays():
    source = dataset(train=["a", "b"], dev=["c"])
    assert with_dev_split(source, 42) is source


def test_without_train_nothing_is_made_but_it_is_said():
    split = with_dev_split(dataset(dev=["a"], test=["b"]), 42)
    assert set(split.splits) == {"dev", "test"}
    assert split.notes[-1].startswith("no train split: ")


def test_a_single_train_query_is_not_taken_away():
    split = with_dev_split(dataset(train=["a"]), 42)
    assert set(split.splits) == {"train"}
    assert "no dev split" in split.notes[-1]


def test_dev_can_be_halved_on_request():
    split = train_from_dev(dataset(dev=NUMBERS, test=["t"]), 42)
    train, dev = split.splits["train"], split.splits["dev"]
    assert sorted([*train.ids, *dev.ids]) == sorted(NUMBERS)
    assert 200 <= len(train) <= 300
    assert "train: " in split.notes[-1]
    assert list(split.splits) == ["train", "dev", "test"]


@pytest.mark.parametrize("splits", [{"train": ["a"], "dev": ["b", "c"]}, {"test": ["a"]}, {"dev": ["a"]}])
def test_halving_needs_a_dev_split_and_no_train(splits):
    with pytest.raises(DataError):
        train_from_dev(dataset(**splits), 42)


@pytest.mark.parametrize("count", [2, 3, 12, 101])
def test_half_of_dev_is_half_and_the_note_no_longer_asks_for_it(count: int) -> None:
    plain = with_dev_split(dataset(dev=[str(i) for i in range(count)], test=["t"]), 42)
    assert any("or use train_from_dev" in note for note in plain.notes)
    split = train_from_dev(plain, 42)
    assert len(split.splits["train"]) == count // 2
    assert len(split.splits["dev"]) == count - count // 2
    assert not any("train_from_dev" in note for note in split.notes)
