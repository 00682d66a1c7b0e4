"""The live environment and the search graph play the same game: same observations, rankings and rewards."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench import Bench
from searchrl.env.build import build_graph
from searchrl.env.game import Game
from searchrl.env.graph import BatchedSearchEnv, GraphTensors, RewardRules, SearchGraph
from searchrl.env.search_env import SearchEnv
from searchrl.env.tree import ROOT, Action
from searchrl.env.vector import VectorSearchEnv
from searchrl.errors import ConfigError
from searchrl.models.language_model import FloatArray


class OverlapJudge:
    """A reward model that can be checked by hand: share of the query's words that the document has."""

    fingerprint = "overlap"
    absolute = False

    def score(self, queries: list[str], documents: list[str]) -> FloatArray:
        shares = [
            len(set(q.lower().split()) & set(d.lower().split())) / len(q.split()) - len(d) / 10_000
            for q, d in zip(queries, documents, strict=True)
        ]
        return np.array(shares, dtype=np.float32)


def rebuilt(bench: Bench, judge: bool, **rules: object) -> Game:
    game, reward = bench.game, OverlapJudge() if judge else None
    played = replace(game.rules, **{"judge_depth": 10, **rules})
    return Game(game.corpus, game.retriever, game.reformulator, reward, played)


CASES = {
    "people": (False, {}, RewardRules("qrels", 0.01), True),
    "people, no mask": (False, {}, RewardRules("qrels", 0.01), False),
    "people, against single pass": (False, {"fusion": "rrf"}, RewardRules("qrels", 0.0, "single_pass"), True),
    "judge": (True, {"trust": (0.3,)}, RewardRules("reward", 0.01), True),
    "judge, trusted as far as is chosen": (
        True,
        {"judge_depth": 5, "trust": (0.0, 0.3, 0.8)},
        RewardRules("qrels", 0.01),
        True,
    ),
    "judge, trust, no mask": (
        True,
        {"judge_depth": 5, "trust": (0.0, 0.5), "max_steps": 3},
        RewardRules("reward", 0.01, "single_pass"),
        False,
    ),
    "judge, list ideal": (True, {"fusion": "last"}, RewardRules("reward_list", 0.0), True),
    "auto search, four steps": (True, {"auto_search": True, "max_steps": 4}, RewardRules("qrels", 0.02), True),
}


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def both(request: pytest.FixtureRequest, bench: Bench) -> tuple[SearchEnv, SearchGraph, GraphTensors]:
    judge, rules, reward, mask = CASES[request.param]
    game, queries = rebuilt(bench, judge, **rules), bench.queries("train")
    graph = build_graph(game, queries)
    return SearchEnv(game, queries, reward, use_mask=mask), graph, GraphTensors(graph, reward, mask)


@settings(max_examples=15)
@given(data=st.data())
def test_live_and_graph_agree_step_for_step(
    both: tuple[SearchEnv, SearchGraph, GraphTensors], data: st.DataObject
) -> None:
    import torch

    live, graph, tensors = both
    row = data.draw(st.integers(0, len(graph) - 1), "query")
    batched = BatchedSearchEnv(tensors)
    seen = batched.reset(torch.tensor([row]))
    shown, info = live.reset(options={"query": graph.query_ids[row]})
    done = False
    while not done:
        np.testing.assert_allclose(shown["query"], seen.query[0], atol=1e-5)
        np.testing.assert_allclose(shown["result"], seen.result[0], atol=1e-5)
        np.testing.assert_allclose(shown["features"], seen.features[0], atol=1e-4, rtol=1e-4)
        np.testing.assert_array_equal(shown["mask"].astype(bool), seen.mask[0])
        np.testing.assert_array_equal(info["action_mask"], shown["mask"])
        slot = graph.tree.end_slot[int(batched.nodes[0])]
        if slot >= 0:
            final = live.final_ranking()
            assert final is not None
            np.testing.assert_allclose(final.scores[0], graph.final_scores[row, slot], atol=1e-5)
            _same_up_to_ties(final.documents[0], graph.final[row, slot], graph.final_scores[row, slot])
        legal = np.flatnonzero(live.action_masks())
        action = int(data.draw(st.sampled_from(legal.tolist()), "action"))
        shown, reward, terminated, truncated, info = live.step(action)
        seen, paid, over = batched.step(torch.tensor([action]))
        done = terminated or truncated
        assert done == bool(over[0])
        assert reward == pytest.approx(float(paid[0]), abs=1e-5)


def _same_up_to_ties(left: np.ndarray, right: np.ndarray, scores: np.ndarray) -> None:
    """Documents agree wherever the neighbours' scores tell them apart (a batch of one rounds differently)."""
    gaps = np.abs(np.diff(scores, prepend=np.inf, append=-np.inf))
    clear = (gaps[:-1] > 1e-5) & (gaps[1:] > 1e-5)
    np.testing.assert_array_equal(left[clear], right[clear])


def test_a_query_never_finds_itself(bench: Bench) -> None:
    from searchrl.data.dataset import QuerySet

    corpus = bench.dataset.corpus
    ids = list(corpus.ids[:5])
    queries = QuerySet(ids, [corpus.full_text(i) for i in range(5)], {i: {corpus.ids[9]: 1} for i in ids})
    graph = build_graph(rebuilt(bench, judge=False), queries)
    for row in range(5):
        assert row not in graph.final[row]
        assert row not in graph.searched[row]


def test_illegal_action_without_mask_costs_its_step_and_changes_nothing(bench: Bench) -> None:
    env = SearchEnv(bench.game, bench.queries("train"), RewardRules("qrels", 0.1), use_mask=False)
    before, _ = env.reset(seed=1)
    after, reward, terminated, truncated, _ = env.step(Action.NARROW)
    assert (reward, terminated, truncated) == (-0.1, False, False)
    np.testing.assert_array_equal(before["query"], after["query"])
    assert env.final_ranking() is None


def test_terminating_with_nothing_found_is_penalised(bench: Bench) -> None:
    env = SearchEnv(bench.game, bench.queries("train"), RewardRules("qrels", 0.1, empty_penalty=0.7), use_mask=False)
    env.reset(seed=1)
    _, reward, terminated, _, _ = env.step(Action.TERMINATE)
    assert terminated
    assert reward == pytest.approx(-0.8)


def test_a_query_that_is_not_there_is_one_clear_error(bench: Bench) -> None:
    env = SearchEnv(bench.game, bench.queries("train"), RewardRules("qrels"))
    with pytest.raises(ConfigError, match=r"'nobody'.*no such query"):
        env.reset(options={"query": "nobody"})


def test_masked_terminate_before_a_search_is_refused(bench: Bench) -> None:
    env = SearchEnv(bench.game, bench.queries("train"), RewardRules("qrels"))
    env.reset(seed=1)
    _, _, terminated, _, _ = env.step(Action.TERMINATE)
    assert not terminated


def test_graph_gains_are_what_trec_eval_says(bench: Bench) -> None:
    from searchrl.evaluation.measures import evaluate_ranking

    queries = bench.queries("train")
    graph = build_graph(bench.game, queries)
    for node in graph.tree.searched_nodes:
        ends = np.full(len(graph), node)
        said = evaluate_ranking(graph.final_ranking(ends), queries, bench.dataset.corpus.ids)["nDCG@10"]
        np.testing.assert_allclose(graph.state_gains("qrels")[:, node], said, atol=1e-6)


def test_stored_graph_is_the_same_and_damage_is_noticed(
    bench: Bench, tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    from searchrl.env.build import obtain_graph

    queries = bench.queries("dev")
    first = obtain_graph(bench.game, queries, tmp_path)
    again = obtain_graph(bench.game, queries, tmp_path)
    np.testing.assert_array_equal(first.features, again.features)
    assert not caplog.records
    folder = next((tmp_path / "graphs").iterdir())
    whole = (folder / "features.npy").read_bytes()
    (folder / "features.npy").write_bytes(whole[:-8] + b"damaged!")
    rebuilt_graph = obtain_graph(bench.game, queries, tmp_path)
    assert "damaged" in caplog.text
    np.testing.assert_allclose(np.asarray(rebuilt_graph.features), np.load(folder / "features.npy"))
    assert (folder / "features.npy").read_bytes() == whole


def test_root_shows_the_query_and_nothing_found(bench: Bench) -> None:
    graph = build_graph(bench.game, bench.queries("dev"))
    shown = GraphTensors(graph, RewardRules("qrels")).observe(torch.tensor([0]), torch.tensor([ROOT]), 0)
    assert float(shown.query[0].norm()) == pytest.approx(1.0, abs=1e-4)
    assert not shown.result.any()


def test_the_vector_environment_equals_single_ones_step_by_step(
    both: tuple[SearchEnv, SearchGraph, GraphTensors],
) -> None:
    single, graph, _ = both
    live = SyncVectorEnv([lambda: copy.deepcopy(single)] * 3)
    fast = VectorSearchEnv(3, graph, single.reward, single.use_mask)
    assert fast.single_observation_space == live.single_observation_space
    assert fast.action_space == live.action_space
    assert fast.metadata["autoreset_mode"] == live.metadata["autoreset_mode"]
    draws = np.random.default_rng(0)
    (seen, info), (expected, live_info) = fast.reset(seed=7), live.reset(seed=7)
    for _ in range(16):
        for name, value in expected.items():
            np.testing.assert_allclose(seen[name], value, atol=1e-4, err_msg=name)
        assert (info["query_id"] == live_info["query_id"]).all()
        assert (info["action_mask"] == live_info["action_mask"]).all()
        likely = info["action_mask"] + 0.1  # now and then an illegal one
        actions = np.array([draws.choice(len(one), p=one / one.sum()) for one in likely])
        seen, reward, terminated, truncated, info = fast.step(actions)
        expected, live_reward, live_terminated, live_truncated, live_info = live.step(actions)
        np.testing.assert_allclose(reward, live_reward, atol=1e-5)
        assert (terminated == live_terminated).all()
        assert (truncated == live_truncated).all()
