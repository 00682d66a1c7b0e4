"""From documents' tags to a tag tree: embed the tags, let documents join tags like them, cluster, name the nodes.

Tags are clustered by Ward's method (Ward 1963; Murtagh and Legendre 2014), by SciPy. Its binary tree becomes one of
``branching`` children a node by cutting, in each node, the merges that joined the most different clusters. Ward's
method compares every tag with every other, so larger sets are first divided by k-means (scikit-learn), top down, until
it can take over.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.data.dataset import Corpus
from searchrl.data.records import checked_id, checked_text, read_json
from searchrl.errors import DataError
from searchrl.files import DIGEST, sealed, unsealed, write_text
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, lengths, unit_rows
from searchrl.retrieval.tagtree.settings import TagSettings, TreeSettings
from searchrl.retrieval.tagtree.tagging import best_phrases, document_phrases
from searchrl.retrieval.tagtree.tree import NOTHING, TagTree

Embed = Callable[[Sequence[str]], FloatArray]
"""Texts to unit vectors."""

SEED = 42
"""Of ``keyphrase_tree``."""

MOST_LINKED = 4096
"""Tags that Ward's method takes together: 67 MB of distances."""

Members = NDArray[np.int64]


def build_tag_tree(
    tags_of: Sequence[Sequence[str]],
    documents: FloatArray,
    embed: Embed,
    settings: TreeSettings,
    seed: int,
) -> TagTree:
    """The tree over documents with these tags. documents: (n, dim) vectors. embed: vectors of tags' texts. Only the
    direction of either counts. Some document must have a tag.
    """
    documents = _directions(documents)
    tags = sorted({tag for own in tags_of for tag in own})
    given = postings(tags_of, tags)
    vectors = pooled(given, documents, embed, tags, settings.text_share)
    joined = join_nearest(given, documents, vectors, settings.nearest)
    shape = cluster(vectors, settings.branching, settings.leaf_size, seed)
    nodes = np.stack([unit_rows(vectors[members].mean(axis=0, keepdims=True))[0] for members in shape.members])
    chosen = _representatives(shape, vectors, nodes, np.diff(given.indptr), settings.representatives)
    return TagTree(tags, nodes, shape.parent, shape.first, shape.count, shape.tag, chosen, joined)


def keyphrase_tree(texts: Sequence[str], documents: FloatArray, embed: Embed) -> TagTree:
    """The tree over documents tagged with their own phrases, by default settings. Raises DataError without phrases."""
    settings = TagSettings()
    least = settings.least(len(texts))
    tags_of = best_phrases(document_phrases(texts, least, settings.max_share), settings.tags_per_document, least)
    return build_tag_tree(tags_of, documents, embed, TreeSettings(), SEED)


def as_corpus(tags: Sequence[str]) -> Corpus:
    """Tags as documents, so that their vectors are kept as those are."""
    return Corpus([str(i) for i in range(len(tags))], [""] * len(tags), tags)


def postings(tags_of: Sequence[Sequence[str]], tags: Sequence[str]) -> Any:
    """Which documents have which tag: (tags, documents) CSR of ones."""
    from scipy import sparse

    place = {tag: i for i, tag in enumerate(tags)}
    rows = [place[tag] for own in tags_of for tag in own]
    columns = np.repeat(np.arange(len(tags_of)), [len(own) for own in tags_of])
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(tags), len(tags_of)))


def pooled(given: Any, documents: FloatArray, embed: Embed, tags: Sequence[str], share: float) -> FloatArray:
    """The tags' vectors, (tags, dim): the mean of their documents', mixed with a share of their own texts'."""
    vectors = unit_rows(np.asarray(given @ np.asarray(documents), dtype=np.float32))
    return unit_rows((1 - share) * vectors + share * _directions(embed(tags))) if share else vectors


def _directions(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / lengths(vectors), dtype=np.float32)


def join_nearest(given: Any, documents: FloatArray, vectors: FloatArray, nearest: int) -> Any:
    """The postings with each document in its ``nearest`` tags besides; in one at least, if it has none of its own.

    What two documents have in common need not stand in both as the same words. As a document in several cells of an
    inverted file, it is then found by more ways (Chen et al. 2021, SPANN).
    """
    from scipy import sparse

    anywhere = np.full(len(documents), NO_DOCUMENT, dtype=DOCUMENT)
    near = DenseIndex(vectors).search(np.asarray(documents), min(max(nearest, 1), len(vectors)), anywhere).documents
    rows = np.arange(len(documents)) if nearest else np.flatnonzero(np.asarray(given.sum(axis=0)).ravel() == 0)
    tags, columns = near[rows].ravel(), np.repeat(rows, near.shape[1])
    more = sparse.csr_matrix((np.ones(len(tags), np.float32), (tags, columns)), shape=given.shape)
    joined = (given + more).sign().tocsr()
    joined.sort_indices()
    return joined


def _representatives(shape: Shape, vectors: FloatArray, nodes: FloatArray, sizes: IntArray, count: int) -> IntArray:
    chosen = np.full((len(nodes), count), NOTHING, dtype=np.int32)
    weights = np.log1p(sizes)
    for node, members in enumerate(shape.members):
        best = np.argsort(-(vectors[members] @ nodes[node]) * weights[members], kind="stable")[:count]
        chosen[node, : len(best)] = members[best]
    return chosen


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


FORMAT = "searchrl_tags"
VERSION = 1


@dataclass(frozen=True)
class InventoryHeader:
    """What an inventory was made with, so that the same command can make it again."""

    dataset: str
    """As the command names it."""
    corpus_fingerprint: str
    tagger: str
    model: str | None
    """Name and fingerprint of the language model; None where there was none."""
    prompt_version: str | None
    seed: int
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Inventory:
    """The tags of every document of a collection, in its order, best first."""

    header: InventoryHeader
    documents: Mapping[str, Sequence[str]]

    def tags(self) -> dict[str, list[str]]:
        """Tag -> ids of its documents; tags by name."""
        found: dict[str, list[str]] = {}
        for document, tags in self.documents.items():
            for tag in tags:
                found.setdefault(tag, []).append(document)
        return dict(sorted(found.items()))


def write_inventory(path: Path, inventory: Inventory) -> None:
    """Write an inventory whole or not at all, a document or tag a line."""
    parts = [f'"{FORMAT}": {VERSION}', f'"header": {_json(asdict(inventory.header))}']
    for name, entries in (("documents", inventory.documents), ("tags", inventory.tags())):
        lines = ",\n".join(f" {_json(key)}: {_json(list(values))}" for key, values in entries.items())
        parts.append(f'"{name}": {{\n{lines}\n}}')
    digest = sealed({"header": asdict(inventory.header), "documents": _plain(inventory)})[DIGEST]
    write_text(path, "{" + ",\n".join([*parts, f'"{DIGEST}": {_json(digest)}']) + "}\n")


def read_inventory_for(path: Path, corpus: Corpus) -> Inventory:
    """Read the inventory of a corpus. Raises DataError as ``read_inventory`` does, and where it is another's."""
    inventory = read_inventory(path)
    found = inventory.header.corpus_fingerprint
    if found != corpus.fingerprint or list(inventory.documents) != list(corpus.ids):
        raise DataError(
            f"{path}: made for another collection ({found}; this one is {corpus.fingerprint}); name its own "
            "dataset, or generate tags again"
        )
    return inventory


def read_inventory(path: Path) -> Inventory:
    """Read an inventory. Raises DataError naming the file where it is missing, damaged, empty or contradicts itself."""
    content = read_json(path)
    if not isinstance(content, dict) or content.get(FORMAT) != VERSION:
        raise DataError(f"{path}: an inventory of tags, version {VERSION}, is expected, as generate_tags writes it")
    documents: dict[str, list[str]] = {}
    for document, tags in _object(content, "documents", str(path)).items():
        place = f"{path}, document {checked_id(document, 'a document id', str(path))!r}"
        if not isinstance(tags, list):
            raise DataError(f"{place}: a list of tags is expected")
        documents[document] = [checked_text(tag, "a tag", place) for tag in tags]
        if len(set(tags)) < len(tags) or not all(tag.strip() for tag in tags):
            raise DataError(f"{place}: a tag is empty or given twice")
    inventory = Inventory(_header(_object(content, "header", str(path)), str(path)), documents)
    try:
        plain = {"header": asdict(inventory.header), "documents": documents}
        unsealed({**plain, DIGEST: content[DIGEST]} if DIGEST in content else plain)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if not any(documents.values()):
        raise DataError(f"{path}: holds no tags")
    if _object(content, "tags", str(path)) != inventory.tags():
        raise DataError(f"{path}: 'documents' and 'tags' contradict each other; generate tags again")
    return inventory


def _header(fields: dict[str, Any], place: str) -> InventoryHeader:
    required, optional = ("dataset", "corpus_fingerprint", "tagger"), ("model", "prompt_version")
    given = [name for name in (*required, *optional) if name in required or fields.get(name) is not None]
    texts = dict.fromkeys(optional) | {name: checked_text(fields.get(name), repr(name), place) for name in given}
    seed, settings = fields.get("seed"), fields.get("settings")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise DataError(f"{place}: 'seed' must be an integer, not {str(seed)[:40]!r}")
    if not isinstance(settings, dict) or not all(isinstance(value, (int, float)) for value in settings.values()):
        raise DataError(f"{place}: 'settings' must be an object of numbers")
    return InventoryHeader(**texts, seed=seed, settings=settings)  # type: ignore[arg-type]


def _object(content: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise DataError(f"{place}: {name!r} must be an object")
    return value


def _plain(inventory: Inventory) -> dict[str, list[str]]:
    return {document: list(tags) for document, tags in inventory.documents.items()}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
