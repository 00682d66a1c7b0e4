"""Tags into a tree by hierarchical clustering: Ward's method (Ward 1963; Murtagh and Legendre 2014), by SciPy.

Ward's binary tree becomes one of ``branching`` children a node by cutting, in each node, the merges that joined the
most different clusters. Ward's method compares every tag with every other, so larger sets are first divided by k-means
(scikit-learn), top down, until it can take over.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.retrieval.ranking import FloatArray, IntArray
from searchrl.tagtree.tree import NOTHING

MOST_LINKED = 4096
"""Tags that Ward's method takes together: 67 MB of distances."""

Members = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """A tree's ``parent``, ``first``, ``count`` and ``tag``, see ``TagTree``, and each node's tags."""

    parent: IntArray
    first: IntArray
    count: IntArray
    tag: IntArray
    members: list[Members]


@dataclass(frozen=True)
class _Cluster:
    members: Members
    merge: Any = None
    """Its place in Ward's tree, whose ids are places in ``base``; None above where that begins."""
    base: Members | None = None


def cluster(vectors: FloatArray, branching: int, leaf_size: int, seed: int) -> Shape:
    """Cluster (m, dim) unit vectors into a tree: at most ``branching`` children a node, but up to ``leaf_size`` tags.

    Deterministic for a seed.
    """
    parent, first, count, tag, members = [NOTHING], [0], [0], [NOTHING], [np.arange(len(vectors))]
    todo = deque([(0, _Cluster(members[0]))])
    while todo:
        node, whole = todo.popleft()
        if len(whole.members) <= leaf_size:
            parts = [_Cluster(whole.members[i : i + 1]) for i in range(len(whole.members))]
        else:
            parts = _split(vectors, whole, branching, seed)
        first[node], count[node] = len(parent), len(parts)
        for part in parts:
            single = len(part.members) == 1
            if not single:
                todo.append((len(parent), part))
            parent.append(node)
            first.append(0)
            count.append(0)
            tag.append(int(part.members[0]) if single else NOTHING)
            members.append(part.members)
    as_array = partial(np.array, dtype=np.int32)
    return Shape(as_array(parent), as_array(first), as_array(count), as_array(tag), members)


def _split(vectors: FloatArray, whole: _Cluster, branching: int, seed: int) -> list[_Cluster]:
    if whole.merge is None and len(whole.members) > MOST_LINKED:
        return [_Cluster(part) for part in _divide(vectors, whole.members, branching, seed)]
    merge, base = whole.merge, whole.base
    if merge is None:
        from scipy.cluster.hierarchy import linkage, to_tree

        base = whole.members
        merge = to_tree(linkage(np.asarray(vectors[base], dtype=np.float64), method="ward"))
    assert base is not None
    parts = [merge]
    while len(parts) < branching:
        divisible = [i for i, part in enumerate(parts) if part.count > 1]
        if not divisible:
            break
        widest = max(divisible, key=lambda i: (parts[i].dist, parts[i].count))
        parts[widest : widest + 1] = [parts[widest].left, parts[widest].right]
    return [_Cluster(np.sort(base[part.pre_order()]), part, base) for part in parts]


def _divide(vectors: FloatArray, members: Members, branching: int, seed: int) -> list[Members]:
    from sklearn.cluster import KMeans

    if len(np.unique(vectors[members], axis=0)) < branching:  # nothing to tell them apart by
        return np.array_split(members, branching)
    labels = KMeans(branching, n_init=1, max_iter=30, random_state=seed).fit_predict(vectors[members])
    return [members[labels == label] for label in range(branching)]
