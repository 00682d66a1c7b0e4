from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench import Bench
from benchmarks.session import QUICK, Session, by_document, play
from searchrl.env.build import build_graph
from searchrl.env.game import Game
from searchrl.models.language_model import FloatArray

lengths_and_sizes = st.tuples(st.lists(st.integers(1, 1000), min_size=1, max_size=80), st.integers(1, 30))


@given(lengths_and_sizes, st.integers(1, 4))
def test_samples_are_disjoint_where_there_is_enough(bench: Bench, drawn, rounds: int) -> None:
    lengths, size = drawn
    session = Session(bench, replace(QUICK, rounds=rounds))
    samples = session.samples(np.array(lengths), size, "test")
    assert len(samples) == rounds
    everything = np.concatenate(samples)
    assert set(everything.tolist()) <= set(range(len(lengths)))
    if len(lengths) >= rounds:
        assert len(set(everything.tolist())) == len(everything)
        assert {len(sample) for sample in samples} == {min(size, len(lengths) // rounds)}
    again = session.samples(np.array(lengths), size, "test")
    assert [a.tolist() for a in again] == [s.tolist() for s in samples]


def test_a_small_sample_has_the_mixture_of_the_whole(bench: Bench) -> None:
    lengths = np.random.default_rng(0).lognormal(4, 1, 2000).astype(np.int64)
    for sample in Session(bench, replace(QUICK, rounds=3)).samples(lengths, 50, "test"):
        assert abs(lengths[sample].mean() / lengths.mean() - 1) < 0.1


def test_the_queries_played_are_those_of_training_in_proportion(bench: Bench) -> None:
    everything = Session(bench, replace(QUICK, queries=1000)).played
    assert {s: len(q) for s, q in everything.items()} == {s: len(bench.queries(s)) for s in ("train", "dev")}
    some = Session(bench, replace(QUICK, queries=8)).played
    assert {s: len(q) for s, q in some.items()} == {"train": 4, "dev": 4}


class Lengths:
    """Judges by length."""

    fingerprint = "lengths"
    absolute = True

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        return np.array([len(document) / 1000 for document in documents], dtype=np.float32)


def test_the_notes_are_the_pools_of_the_judged_graph(bench: Bench) -> None:
    queries = bench.queries("dev").take(4)
    played = play(bench, {"dev": queries})
    rules = bench.game
    judged = build_graph(Game(rules.corpus, rules.retriever, rules.reformulator, Lengths(), rules.rules), queries)
    wanted = {
        (text, bench.dataset.corpus.full_text(int(d)))
        for text, pool in zip(queries.texts, judged.pool, strict=True)
        for d in pool
        if d >= 0
    }
    noted = [pair for call in played.calls for pair in call]
    assert set(noted) == wanted
    assert len(noted) == len(wanted), "each pair is asked about once"
    np.testing.assert_array_equal(played.graphs["dev"].searched, judged.searched)
    assert played.queries == 4
    assert played.seconds > played.loading > 0


def test_groups_are_whole_documents_and_lose_nothing(bench: Bench) -> None:
    played = play(bench, {"train": bench.queries("train").take(6)})
    assert sorted(p for group in played.groups for p in group) == sorted(p for call in played.calls for p in call)
    assert all(len({document for _, document in group}) == 1 for group in played.groups)
    assert by_document([("a", "x"), ("b", "y"), ("c", "x")]) == [[("a", "x"), ("c", "x")], [("b", "y")]]
