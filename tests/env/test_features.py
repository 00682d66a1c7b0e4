"""Features against values worked out by hand, on five documents in the plane."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.env.features import (
    PROBE_FEATURES,
    QUERY_FEATURES,
    RANKING_FEATURES,
    REWARD_FEATURES,
    Probe,
    probe,
    query_features,
    ranking_features,
    reward_features,
)
from searchrl.env.game import Game, Rules
from searchrl.env.tree import Action
from searchrl.models.language_model import FloatArray
from searchrl.reformulate.reformulator import FeedbackReformulator
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.fusion import mix
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import Queries, Ranking
from searchrl.retrieval.retriever import Retriever
from searchrl.reward.reward_model import JudgedPool
from tests.tiny import WordEncoder, corpus_of, ranking_of, retriever_of

CORPUS = corpus_of("whale", "whale shark", "shark", "fish", "fish list")
PLANE = np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8], [0.8, 0.6]], dtype=np.float32)
RETRIEVER = Retriever(WordEncoder(), MemoryIndex(DenseIndex(PLANE), LexicalIndex(CORPUS)), 0.0, depth=3)
ORIGINAL = Queries(
    ["whale"], np.array([[1, 0]], np.float32), RETRIEVER.index.query_terms(["whale"]), np.zeros(1, np.float32)
)
NO_EXCLUSION = np.array([-1], np.int32)
USUAL, UNIT = float(PLANE[:, 0].mean()), float(PLANE[:, 0].std())  # the query's cosine with documents at random
ANY_COHERENCE = float(np.linalg.norm(PLANE.mean(axis=0)))


def shown(*rankings, evidence: Probe | None = None) -> dict[str, float]:
    evidence = evidence or probe(RETRIEVER, ORIGINAL, NO_EXCLUSION)
    values, _ = ranking_features(RETRIEVER, ORIGINAL, list(rankings), evidence)
    assert values.dtype == np.float32
    return dict(zip(RANKING_FEATURES, values[0].tolist(), strict=True))


def test_level_and_coherence_of_a_ranking() -> None:
    seen = shown(ranking_of([(0, 3.0), (3, 2.0), (1, 1.0)]))  # cosines with the query: 1, .6, 0
    assert seen["level_top"] == pytest.approx((1.0 - USUAL) / UNIT)
    assert seen["level_mean"] == pytest.approx((1.6 / 3 - USUAL) / UNIT)
    assert seen["level_gap"] == pytest.approx(0.4 / UNIT)
    assert seen["level_drop"] == pytest.approx(1.0 / UNIT)
    assert seen["level_spread"] == pytest.approx(np.std([1.0, 0.6, 0.0]) / UNIT)
    assert seen["coherence"] == pytest.approx(math.hypot(1.6, 1.8) / 3 - ANY_COHERENCE)


def test_levels_do_not_change_with_the_collections_own_level() -> None:
    """All cosines raised and squeezed, as in a collection about one thing, and the documents kept in their order."""
    narrow = np.stack([0.5 * PLANE[:, 0] + 0.4, np.sqrt(1 - (0.5 * PLANE[:, 0] + 0.4) ** 2)], axis=1)
    retriever = Retriever(
        WordEncoder(), MemoryIndex(DenseIndex(narrow.astype(np.float32)), RETRIEVER.index.words), 0.0, depth=3
    )
    ranking = ranking_of([(0, 3.0), (3, 2.0), (1, 1.0)])
    seen = {}
    for name, where in (("wide", RETRIEVER), ("narrow", retriever)):
        values, _ = ranking_features(where, ORIGINAL, [ranking], probe(where, ORIGINAL, NO_EXCLUSION))
        seen[name] = values[0, [RANKING_FEATURES.index(n) for n in RANKING_FEATURES if n.startswith("level")]]
    np.testing.assert_allclose(seen["wide"], seen["narrow"], rtol=1e-4)


def test_overlap_and_novelty_between_rankings() -> None:
    first, second = ranking_of([(0, 1), (1, 1), (2, 1)]), ranking_of([(0, 1), (3, 1), (4, 1)])
    third = ranking_of([(4, 1), (1, 1), (3, 1)])
    alone = shown(first)
    assert (alone["overlap_first"], alone["overlap_previous"], alone["novelty"]) == (1, 1, 1)
    seen = shown(first, second)
    assert (seen["overlap_first"], seen["overlap_previous"], seen["novelty"]) == pytest.approx((1 / 3, 1 / 3, 2 / 3))
    seen = shown(first, second, third)
    assert (seen["overlap_first"], seen["overlap_previous"], seen["novelty"]) == pytest.approx((1 / 3, 2 / 3, 0))
    assert [shown(*rankings)["lead_kept"] for rankings in ([first], [first, second], [first, second, third])] == [
        1,
        1,
        0,
    ]


def test_lexical_support_is_a_share_of_the_best_bm25() -> None:
    bm25 = RETRIEVER.index.words.scores(ORIGINAL.terms)[0]
    seen = shown(ranking_of([(3, 1), (1, 1), (0, 1)]))
    assert seen["lexical_support"] == pytest.approx((bm25[0] + bm25[1]) / 3 / bm25[0], abs=1e-6)


def test_a_short_ranking_counts_what_is_there() -> None:
    seen = shown(ranking_of([(0, 1), (1, 1), (2, 1)]), ranking_of([(3, 2.0), (0, 1.0)], depth=4))
    assert seen["level_mean"] == pytest.approx((0.8 - USUAL) / UNIT)
    assert seen["level_drop"] == pytest.approx(-0.4 / UNIT)
    assert seen["coherence"] == pytest.approx(math.hypot(1.6, 0.8) / 2 - ANY_COHERENCE)
    assert seen["overlap_first"] == pytest.approx(1 / 4)
    assert seen["novelty"] == pytest.approx(1 / 4), "an empty place is not a new document"


def test_an_empty_ranking_is_all_zeros() -> None:
    values, result = ranking_features(
        RETRIEVER, ORIGINAL, [ranking_of([], depth=3)], probe(RETRIEVER, ORIGINAL, NO_EXCLUSION)
    )
    assert not values.any()
    assert not result.any()


def test_the_result_embedding_discounts_by_rank() -> None:
    _, result = ranking_features(
        RETRIEVER, ORIGINAL, [ranking_of([(0, 2), (1, 1)])], probe(RETRIEVER, ORIGINAL, NO_EXCLUSION)
    )
    expected = np.array([1.0, 1 / math.log2(3)])
    np.testing.assert_allclose(result[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_only_the_top_ten_are_looked_at() -> None:
    corpus = corpus_of(*(f"word{i}" for i in range(12)))
    retriever = retriever_of(corpus, depth=12)
    original = retriever.queries(["word3"])
    evidence = probe(retriever, original, NO_EXCLUSION)
    orders = [list(range(12)), [*range(10), 11, 10]]
    both = [
        ranking_features(retriever, original, [ranking_of([(d, -i) for i, d in enumerate(order)])], evidence)
        for order in orders
    ]
    np.testing.assert_array_equal(both[0][0], both[1][0])
    np.testing.assert_array_equal(both[0][1], both[1][1])


def probed(original: Queries = ORIGINAL, exclude: int = -1) -> dict[str, float]:
    evidence = probe(RETRIEVER, original, np.array([exclude], np.int32))
    return dict(zip(PROBE_FEATURES, evidence.features[0].tolist(), strict=True))


def test_probe_compares_the_dense_with_the_lexical_ranking() -> None:
    """Dense: 0, 4, 3. Lexical: 0, 1, nothing."""
    seen = probed()
    bm25 = RETRIEVER.index.words.scores(ORIGINAL.terms)[0]
    idf = math.log1p((5 - 2 + 0.5) / (2 + 0.5))  # the word is in two of five documents
    assert seen["agreement"] == pytest.approx(1 / 3)
    assert seen["agreement_early"] == pytest.approx((1 + 0.9 / 2 + 0.81 / 3) / (1 + 0.9 + 0.81))
    cosines, crossed = np.array([1, 0.8, 0.6]), np.array([bm25[0], 0, 0])
    assert seen["agreement_scores"] == pytest.approx(np.corrcoef(cosines, crossed)[0, 1], abs=1e-5)
    assert (seen["rank_dense_top"], seen["rank_lexical_top"]) == (0, 0)
    assert seen["support_dense_top"] == pytest.approx(1)
    assert seen["level_lexical_top"] == pytest.approx(0, abs=1e-6)
    assert seen["level_lexical_mean"] == pytest.approx((0.5 - 0.8) / UNIT)
    assert seen["lexical_second"] == pytest.approx(bm25[1] / bm25[0])
    assert (seen["lexical_tenth"], seen["lexical_last"]) == (0, 0)
    assert seen["cover_lexical"] == seen["cover_dense"] == pytest.approx(bm25[0] / idf)
    assert 0 < seen["cover_lexical"] < 1
    assert seen["idf_max"] == seen["idf_mean"] == pytest.approx(idf / math.log1p(4.5 / 1.5))
    assert seen["query_words"] == pytest.approx(math.log(2))
    assert probe(RETRIEVER, ORIGINAL, NO_EXCLUSION).best_bm25.tolist() == [pytest.approx(bm25[0])]


def test_probe_weighs_all_words_of_a_query() -> None:
    seen = probed(replace(ORIGINAL, terms=RETRIEVER.index.query_terms(["list of whales"])))
    rare, common = math.log1p((5 - 1 + 0.5) / 1.5), math.log1p((5 - 2 + 0.5) / 2.5)
    assert seen["idf_max"] == pytest.approx(1), "no word is rarer than one in a single document"
    assert seen["idf_mean"] == pytest.approx((rare + common) / 2 / rare)
    assert seen["cover_lexical"] < 0.8, "no document has both"


def test_probe_leaves_out_the_querys_own_document() -> None:
    """Dense: 4, 3, 1. Lexical: 1."""
    seen = probed(exclude=0)
    assert seen["agreement"] == pytest.approx(1 / 3)
    assert seen["rank_dense_top"] == 1
    assert seen["rank_lexical_top"] == pytest.approx(math.log(3) / math.log(4))
    assert seen["support_dense_top"] == seen["lexical_second"] == 0


def test_probe_of_a_query_without_a_known_word() -> None:
    unknown = replace(ORIGINAL, terms=RETRIEVER.index.query_terms(["zebra"]))
    seen = probed(unknown)
    assert {name for name, value in seen.items() if value} == {"rank_dense_top", "rank_lexical_top"}
    assert seen["rank_dense_top"] == seen["rank_lexical_top"] == 1, "not there"
    assert probe(RETRIEVER, unknown, NO_EXCLUSION).best_bm25.tolist() == [0]


def test_query_features() -> None:
    current = replace(ORIGINAL, vectors=np.array([[0.6, 0.8]], np.float32), lexical=np.array([0.75], np.float32))
    values = query_features(ORIGINAL, current, step=2, max_steps=5, searched=True, rewritten=False)[0]
    assert dict(zip(QUERY_FEATURES, values, strict=True)) == pytest.approx(
        {"drift": 0.4, "lexical_share": 0.75, "step": 0.4, "searched": 1.0, "rewritten": 0.0}
    )


def test_reward_features_skip_what_has_no_score() -> None:
    nan = np.nan
    fused = Ranking(np.array([[5, 6, 7], [-1] * 3], np.int32), np.array([[0.9, 0.5, 0.1], [-np.inf] * 3], np.float32))
    first = np.array([[0.2, 0.6, nan], [nan] * 3], np.float32)
    scores = np.array([[0.0, nan, 1.0], [nan] * 3], np.float32)
    known = np.array([[nan, 0.2, 0.6, 0.0, 1.0], [nan] * 5], np.float32)
    values = reward_features(fused, scores, first, known, known[:, :3])
    assert dict(zip(REWARD_FEATURES, values[0], strict=True)) == pytest.approx(
        {
            "reward_mean": 0.5,
            "reward_max": 1.0,
            "reward_change": 0.1,
            "judged_best": 1.0,
            "judged_mass": 1.8,
            "judged_spread": np.std([0.2, 0.6, 0.0, 1.0]),
            "judged_top": 0.0,
            "judged_gain": 0.4,
            "judged_found": 1.0,
            "judged_ndcg": 0.5 / (1.0 + 0.6 / np.log2(3) + 0.2 / 2),
            "judged_agreement": -1.0,
        },
        abs=1e-6,
    )
    assert not values[1].any()


class LengthJudge:
    """Prefers long documents."""

    fingerprint = "length"
    absolute = False

    def score(self, queries: list[str], documents: list[str]) -> FloatArray:
        return np.array([len(d) for d in documents], dtype=np.float32)


def game_of(judge: LengthJudge | None, **rules: object) -> Game:
    retriever = retriever_of(CORPUS, depth=5)
    feedback = FeedbackReformulator(retriever.index)
    return Game(CORPUS, retriever, feedback, judge, Rules(**rules))  # type: ignore[arg-type]


@pytest.mark.parametrize("judge", [None, LengthJudge()])
def test_names_match_widths_and_places_in_every_state(judge: LengthJudge | None) -> None:
    game = game_of(judge)
    names = game.feature_names
    assert len(set(names)) == len(names)
    texts, exclude = ["whale", "fish list"], np.array([-1, -1], np.int32)
    pool, at = game.pool(texts), game.start(texts)
    assert game.features(at, pool).shape == (2, len(names))
    np.testing.assert_allclose(game.features(at, pool), 0.0, atol=1e-6, err_msg="nothing seen, no step taken, no drift")
    for step, action in enumerate((Action.SEARCH, Action.NARROW, Action.SEARCH, Action.BROADEN, Action.SEARCH), 1):
        at = game.advance(at, action, exclude)
        seen = game.features(at, pool)
        assert seen.shape == (2, len(names))
        assert np.isfinite(seen).all()
        assert seen[:, names.index("step")] == pytest.approx(step / 5)
        assert seen[:, names.index("searched")].tolist() == [float(action == Action.SEARCH)] * 2
        assert seen[:, names.index("query_words")] == pytest.approx([math.log(2), math.log(3)])
    assert at.reward_calls.tolist() == ([5, 5] if judge else [0, 0]), "five documents, each judged once"


def judged(documents: int) -> JudgedPool:
    """Knows the first documents: the later one stands in the corpus, the better it is."""
    corpus = corpus_of(*("x" * (i + 1) for i in range(8)))
    pool = JudgedPool(LengthJudge(), corpus, ["?"])
    pool.ensure(np.arange(documents, dtype=np.int32)[None])
    return pool


def rerank(ranking, pool, depth, weight):
    """As ``Game.final_ranking`` does."""
    return mix(ranking, pool.lookup(ranking.documents[:, :depth]), weight)


RANKED = st.lists(st.integers(0, 7), max_size=8, unique=True)


@given(ranked=RANKED, depth=st.integers(1, 10), weight=st.floats(0, 1), known=st.integers(1, 8))
def test_rerank_permutes_the_head_and_keeps_the_tail_below(ranked, depth, weight, known):
    before = ranking_of([(d, float(-i)) for i, d in enumerate(ranked)], depth=8)
    after = rerank(before, judged(known), depth, weight)
    assert after.documents.shape == before.documents.shape
    head = min(depth, len(ranked))
    assert sorted(after.documents[0, :head].tolist()) == sorted(ranked[:head])
    np.testing.assert_array_equal(after.documents[0, head:], before.documents[0, head:])
    present = after.documents[0] >= 0
    assert (np.diff(after.scores[0][present]) <= 1e-6).all()
    assert np.isfinite(after.scores[0][present]).all()
    assert np.isneginf(after.scores[0][~present]).all()


@given(ranked=RANKED, depth=st.integers(1, 10))
def test_rerank_between_its_extremes(ranked, depth):
    before = ranking_of([(d, float(-i)) for i, d in enumerate(ranked)], depth=8)
    np.testing.assert_array_equal(rerank(before, judged(8), depth, 0.0).documents, before.documents)
    best = sorted(ranked[:depth], reverse=True)
    assert rerank(before, judged(8), depth, 1.0).documents[0, : len(best)].tolist() == best


def test_rerank_interpolates() -> None:
    before = ranking_of([(0, 1.0), (7, 0.9), (1, 0.0)])
    assert rerank(before, judged(8), 3, 0.3).documents.tolist() == [[7, 0, 1]]  # .93 against .7
    assert rerank(before, judged(8), 3, 0.05).documents.tolist() == [[0, 7, 1]]  # .905 against .95


def test_a_rerank_as_deep_as_the_ranking_is_played() -> None:
    game = game_of(LengthJudge(), trust=(0.3,))
    texts, exclude = ["whale"], np.array([-1], np.int32)
    pool = game.pool(texts)
    at = game.advance(game.start(texts), Action.SEARCH, exclude)
    assert sorted(game.final_ranking(at, pool).documents[0].tolist()) == [0, 1, 2, 3, 4]
    assert at.reward_calls.tolist() == [5]
