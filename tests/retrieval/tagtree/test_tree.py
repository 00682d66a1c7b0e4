"""The tree, the walk down it and the way to documents, each against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchrl.errors import DataError
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.tagtree import build
from searchrl.retrieval.tagtree.build import build_tag_tree, cluster, keyphrase_tree, pooled, postings
from searchrl.retrieval.tagtree.retriever import LEAST_EVIDENCE, RewardGuide, TagTreeRetriever, candidates_for, walk
from searchrl.retrieval.tagtree.settings import TagSettings, TreeSettings
from searchrl.retrieval.tagtree.tree import NOTHING, TagTree, load_tree, save_tree
from tests.small_models import OverlapReward
from tests.tiny import WordEncoder


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def embed(tags):
    return WordEncoder().encode(tags, kind="document", show_progress=False, description="")


def random_tree(seed: int, documents: int = 60, tags: int = 25, **how) -> tuple[TagTree, np.ndarray]:
    random = np.random.default_rng(seed)
    tags_of = [[f"tag {t}" for t in random.permutation(tags)[: random.integers(0, 4)]] for _ in range(documents)]
    tags_of[0] = ["tag 0"]
    vectors = unit(random.normal(size=(documents, 16)))
    return build_tag_tree(
        tags_of, vectors, embed, TreeSettings(**{"branching": 3, "leaf_size": 3, "nearest": 1, **how}), 0
    ), vectors


@settings(max_examples=30)
@given(
    count=st.integers(1, 40),
    branching=st.integers(2, 5),
    leaf_size=st.integers(1, 6),
    seed=st.integers(0, 99),
    equal=st.booleans(),
    most=st.sampled_from([4096, 10]),
)
def test_a_tree_holds_every_tag_once(
    count: int, branching: int, leaf_size: int, seed: int, equal: bool, most: int
) -> None:
    vectors = unit(np.random.default_rng(seed).normal(size=(count, 8)))
    if equal:
        vectors[:] = vectors[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "MOST_LINKED", most)
        shape = cluster(vectors, branching, leaf_size, seed)
    assert sorted(shape.tag[shape.tag != NOTHING].tolist()) == list(range(count))
    assert sorted(shape.members[0].tolist()) == list(range(count))
    after = 1
    for node in range(len(shape.parent)):
        children = range(shape.first[node], shape.first[node] + shape.count[node])
        if shape.tag[node] != NOTHING:
            assert not len(children)
            assert shape.members[node].tolist() == [shape.tag[node]]
            continue
        assert children.start == after, "level by level"
        after = children.stop
        assert 1 <= len(children) <= max(branching, leaf_size)
        assert all(shape.parent[child] == node for child in children)
        below = np.concatenate([shape.members[child] for child in children])
        assert sorted(below.tolist()) == sorted(shape.members[node].tolist())
    assert after == len(shape.parent)


@pytest.mark.parametrize("most", [4096, 20])
def test_clusters_that_lie_apart_are_found(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MOST_LINKED", most)
    middles = np.eye(4, 16)
    vectors = unit(np.repeat(middles, 8, axis=0) + np.random.default_rng(0).normal(scale=0.02, size=(32, 16)))
    shape = cluster(vectors, 4, 8, 0)
    groups = {frozenset(shape.members[node].tolist()) for node in range(1, 5)}
    assert groups == {frozenset(range(start, start + 8)) for start in (0, 8, 16, 24)}


def test_pooling_mixes_text_and_documents() -> None:
    documents = np.eye(3, 16, dtype=np.float32)
    given_ = postings([["a", "b"], ["a"], ["b"]], ["a", "b"])
    mean = unit(np.array([documents[0] + documents[1], documents[0] + documents[2]]))
    np.testing.assert_allclose(pooled(given_, documents, embed, ["a", "b"], 0.0), mean, atol=1e-6)
    np.testing.assert_allclose(pooled(given_, documents, embed, ["a", "b"], 1.0), embed(["a", "b"]), atol=1e-6)
    half = unit(0.5 * mean + 0.5 * embed(["a", "b"]))
    np.testing.assert_allclose(pooled(given_, documents, embed, ["a", "b"], 0.5), half, atol=1e-6)


@pytest.mark.parametrize("nearest", [0, 2])
def test_every_document_has_a_tag_and_its_nearest(nearest: int) -> None:
    tree, vectors = random_tree(3, nearest=nearest)
    assert (tree.tags_of_document >= max(nearest, 1)).all()
    cosines = vectors @ tree.vectors[tree.node_of_tag].T
    order = np.argsort(-cosines, axis=1, kind="stable")
    has = tree.documents.toarray().T > 0
    assert all(has[d, order[d, :nearest]].all() for d in range(len(vectors)))
    bare, _ = random_tree(3, nearest=0)
    own = bare.documents.toarray().T > 0
    assert (has >= own).all()


def test_nodes_are_the_middle_of_their_tags_and_named_after_them() -> None:
    tree, _ = random_tree(1)
    tags, documents = tree.sizes
    assert tags[0] == len(tree.tags)
    assert documents[0] == tree.documents.shape[1]
    for node in range(len(tree)):
        below = [t for t in range(len(tree.tags)) if node == 0 or node in tree.path(int(tree.node_of_tag[t]))]
        assert tags[node] == len(below)
        assert documents[node] == (tree.documents[below].toarray().sum(axis=0) > 0).sum()
        middle = unit(tree.vectors[tree.node_of_tag[below]].mean(axis=0, keepdims=True))[0]
        np.testing.assert_allclose(tree.vectors[node], middle, atol=1e-5)
        names = tree.name(node).split(", ")
        assert len(names) == min(len(below), 4)
        assert set(names) <= {tree.tags[t] for t in below}


def naive_walk(tree: TagTree, query: np.ndarray, width: int) -> tuple[dict[int, float], int]:
    beam, reached, compared = [0], {}, 0
    while beam:
        following = []
        for node in beam:
            for child in tree.children(node):
                compared += 1
                score = float(tree.vectors[child] @ query)
                if tree.tag[child] != NOTHING:
                    reached[int(tree.tag[child])] = score
                else:
                    following.append((score, child))
        beam = [child for _, child in sorted(following, key=lambda pair: -pair[0])[:width]]
    return reached, compared


@settings(max_examples=25)
@given(seed=st.integers(0, 999), width=st.integers(1, 12))
def test_a_walk_is_a_beam_search(seed: int, width: int) -> None:
    tree, _ = random_tree(seed)
    queries = unit(np.random.default_rng(seed + 1).normal(size=(5, 16)))
    found = walk(tree, queries, width)
    for row, query in enumerate(queries):
        reached, compared = naive_walk(tree, query, width)
        there = found.tags[row] != NOTHING
        assert dict(
            zip(found.tags[row, there].tolist(), found.scores[row, there].tolist(), strict=True)
        ) == pytest.approx(reached, abs=1e-5)
        assert found.compared[row] == compared
        assert (np.diff(found.scores[row, : there.sum()]) <= 0).all()
        assert not there[there.sum() :].any()
    everything = walk(tree, queries, tree.leaves)
    assert sorted(everything.tags[0].tolist()) == list(range(len(tree.tags)))


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, vectors = random_tree(5)
    queries = unit(np.random.default_rng(0).normal(size=(7, 16)))
    anywhere = np.full(7, -1, dtype=np.int32)
    how = {"beam_width": 2, "candidates": 10}
    whole = TagTreeRetriever(tree, vectors).search(queries, 5, anywhere, **how)
    monkeypatch.setattr("searchrl.retrieval.tagtree.retriever.BLOCK_CELLS", 1)
    monkeypatch.setattr("searchrl.retrieval.tagtree.retriever.AT_ONCE", 2)
    parts = TagTreeRetriever(tree, vectors).search(queries, 5, anywhere, **how)
    np.testing.assert_array_equal(whole.ranking.documents, parts.ranking.documents)
    np.testing.assert_array_equal(whole.walk.compared, parts.walk.compared)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), k=st.integers(1, 70))
def test_going_everywhere_is_exact_search(seed: int, k: int) -> None:
    tree, vectors = random_tree(seed)
    random = np.random.default_rng(seed)
    queries = unit(random.normal(size=(4, 16)))
    exclude = random.integers(-1, 60, 4).astype(np.int32)
    found = TagTreeRetriever(tree, vectors).search(queries, k, exclude, beam_width=tree.leaves, candidates=60)
    exact = DenseIndex(vectors).search(queries, k, exclude)
    np.testing.assert_array_equal(found.ranking.documents, exact.documents)
    np.testing.assert_allclose(found.ranking.scores, exact.scores, atol=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), width=st.integers(1, 6), candidates=st.integers(1, 30), k=st.integers(1, 40))
def test_only_the_most_promising_documents_are_scored(seed: int, width: int, candidates: int, k: int) -> None:
    tree, vectors = random_tree(seed)
    queries = unit(np.random.default_rng(seed + 2).normal(size=(3, 16)))
    exclude = np.array([-1, 0, 1], dtype=np.int32)
    found = TagTreeRetriever(tree, vectors).search(queries, k, exclude, beam_width=width, candidates=candidates)
    for row, query in enumerate(queries):
        wide = width
        while True:  # twice as wide until there are enough
            reached, _ = naive_walk(tree, query, wide)
            floor = np.median(list(reached.values()))
            worth = {}
            for document in range(60):
                tags = tree.documents.toarray()[:, document].nonzero()[0]
                counts = [max(reached[t] - floor, LEAST_EVIDENCE) for t in tags if t in reached]
                if counts and document != exclude[row]:
                    worth[document] = sum(counts) / len(tags)
            if len(worth) >= k or wide >= tree.leaves:
                break
            wide *= 2
        size = min(max(candidates, k), len(worth))
        assert found.scored[row] == size
        documents = found.ranking.documents[row]
        there = documents[documents >= 0]
        assert len(there) == min(k, size)
        assert len(set(there.tolist())) == len(there)
        least = sorted(worth.values(), reverse=True)[size - 1]
        assert all(worth[d] >= least - 1e-5 for d in there.tolist())
        np.testing.assert_allclose(found.ranking.scores[row][documents >= 0], vectors[there] @ query, atol=1e-6)


def test_how_many_are_scored_by_default() -> None:
    assert candidates_for(10, 10_000) == 1000
    assert candidates_for(100, 1000) == 200
    assert candidates_for(100, 50) == 50
    assert [TagSettings().least(n) for n in (5, 160, 5000)] == [1, 2, 8]


def test_a_reward_model_leads_elsewhere() -> None:
    """By cosine the query belongs to the first cluster, by its words to the second."""
    tags_of = [[name] for name in ("a one", "a two", "b one", "b two")]
    vectors = unit(np.array([[1, 0.1, 0], [1, 0.0, 0.1], [-1, 0.1, 0], [-1, 0, 0.1]], dtype=np.float32))
    flat = lambda tags: np.zeros((len(tags), 3), np.float32)  # noqa: E731
    tree = build_tag_tree(tags_of, vectors, flat, TreeSettings(text_share=0, nearest=0, branching=2, leaf_size=2), 0)
    query, reward = np.array([[1, 0, 0]], dtype=np.float32), OverlapReward()

    def reached(weight: float | None) -> set[str]:
        guide = None if weight is None else RewardGuide(tree, reward, ["b"], weight)
        return {tree.tags[t] for t in walk(tree, query, 1, guide).tags[0] if t != NOTHING}

    assert reached(None) == reached(0.0) == {"a one", "a two"}
    assert reached(1.0) == {"b one", "b two"}
    assert all(name.count(",") == 1 for _, name in reward.asked), "clusters are asked about, by their tags"
    asked = len(reward.asked)
    walk(tree, np.repeat(query, 3, axis=0), 1, RewardGuide(tree, reward, ["b"] * 3, 1.0))
    assert len(reward.asked) - asked == 2, "equal pairs once"


def test_a_stored_tree_is_the_same_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    tree, vectors = random_tree(2)
    save_tree(tmp_path / "tree", tree, {"dataset": "d"})
    again, facts = load_tree(tmp_path / "tree")
    assert facts == {"dataset": "d"}
    assert list(again.tags) == list(tree.tags)
    query, anywhere = vectors[:3], np.full(3, -1, dtype=np.int32)
    for one, other in zip(
        *(
            (f.ranking.documents, f.walk.tags)
            for f in (
                TagTreeRetriever(t, vectors).search(query, 5, anywhere, beam_width=2, candidates=9)
                for t in (tree, again)
            )
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(DataError, match=r"no tag tree here; searchrl tags embed makes one"):
        load_tree(tmp_path)
    (tmp_path / "tree" / "first.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="the tag tree is damaged"):
        load_tree(tmp_path / "tree")
    (tmp_path / "tree" / "meta.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        load_tree(tmp_path / "tree")


def test_keyphrases_make_a_tree_of_texts() -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeo" for c in "xyz"]
    random = np.random.default_rng(0)
    texts = [" the ".join(random.choice(words, 4)) for _ in range(120)]
    tree = keyphrase_tree(texts, embed(texts), embed)
    assert set(tree.tags) <= set(words)
    assert (tree.tags_of_document > 0).all()
    with pytest.raises(DataError, match="no phrase"):
        keyphrase_tree(["the", "of"], embed(["the", "of"]), embed)
