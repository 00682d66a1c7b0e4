"""A search graph made by hand: what an episode meets is known, so what an agent should learn is too."""

from __future__ import annotations

import numpy as np
import torch

from searchrl.agent.policy import Policy
from searchrl.agent.rollout import walk
from searchrl.env.graph import GraphTensors, SearchGraph
from searchrl.env.tree import build_tree


def toy_graph(
    n: int = 200, seed: int = 0, max_steps: int = 5, noise: float = 0.05, auto_search: bool = False, n_shares: int = 1
) -> SearchGraph:
    """Queries of three kinds, told apart by a feature: best left alone, best narrowed, best broadened.

    A wrong reformulation costs as much as the right one gains, so every fixed sequence is far from the oracle.
    n_shares: arguments that TERMINATE takes; every second query of a kind is best ended by the last of them, which a
    second feature tells, and the others by the first.
    """
    rng = np.random.default_rng(seed)
    tree = build_tree(max_steps, auto_search, n_shares)
    dim, names = 8, ("kind", "trust", "step")
    kind = rng.integers(0, 3, n)
    slots = len(tree.searched_nodes)
    gains = np.full((n, slots), 0.2, dtype=np.float32)
    gains[:, 0] = 0.5
    first = {0: 0, 1: 1, 2: 2}  # searched slots: 0 single pass, 1 after NARROW, 2 after BROADEN
    gains[kind == 0, 0] = 0.9
    gains[kind == 1, first[1]] = 0.9
    gains[kind == 2, first[2]] = 0.9
    states = slice(0, tree.open_states)
    features = rng.normal(0, noise, (n, tree.open_states, len(names))).astype(np.float32)
    features[:, :, 0] += (kind - 1)[:, None] * tree.searched[None, states]
    features[:, :, 2] = tree.step[None, states] / max_steps
    if n_shares > 1:
        trusted = np.arange(n) % 2
        features[:, :, 1] += trusted[:, None]
        off = np.abs(np.arange(n_shares)[None, :] - trusted[:, None] * (n_shares - 1)) * 0.1
        gains = (gains[:, :, None] - off[:, None, :]).reshape(n, -1).astype(np.float32)
    queries = int(tree.query_slot.max()) + 1
    unit = rng.normal(size=(n, queries + slots, dim))
    unit = (unit / np.linalg.norm(unit, axis=2, keepdims=True)).astype(np.float32)
    documents = np.tile(np.arange(5, dtype=np.int32), (n, slots, 1))
    scores = np.tile(np.linspace(1, 0.5, 5, dtype=np.float32), (n, slots, 1))
    final, final_scores = documents.repeat(n_shares, axis=1), scores.repeat(n_shares, axis=1)
    return SearchGraph(
        tree=tree,
        query_ids=[f"q{i}" for i in range(n)],
        texts=[[f"query {i}" for i in range(n)] for _ in range(queries)],
        feature_names=names,
        features=features,
        query_vectors=unit[:, :queries],
        result_vectors=unit[:, queries:],
        searched=documents,
        final=final,
        final_scores=final_scores,
        reward_calls=np.zeros((n, slots), dtype=np.int32),
        reformulation_calls=0,
        gains={"qrels": gains},
        pool=np.empty((n, 0), dtype=np.int32),
        pool_scores=np.empty((n, 0), dtype=np.float32),
    )


@torch.no_grad()
def expected_return(policy: Policy, graph: GraphTensors) -> float:
    """Exact mean return of the stochastic policy; only under the mask."""
    return float(walk(policy, graph, torch.arange(graph.size)).returns.mean())
