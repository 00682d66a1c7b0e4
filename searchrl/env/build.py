"""Get a search graph: the stored one where there is one, else built, under a bar if wanted, and stored.

To build one is to play every legal sequence of actions, level by level, all queries of a state together: play the
states that so many steps lead to, have what was found there scored by the reward model, go on with what it said. At
last every state is looked at with all its scores. Many queries are played in blocks, so that memory does not grow with
their number but for ids, texts and pool. Each step of a block is kept as a part, so that a build that was killed
repeats at most the step in flight.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.data.dataset import QuerySet
from searchrl.data.own_document import own_document, own_ids
from searchrl.device import processor
from searchrl.env.game import Game, part_of, state_of, state_part
from searchrl.env.graph import SearchGraph, fingerprint, graph_of, load_graph
from searchrl.env.tree import Node, kind
from searchrl.files import Array, Blocks, Part, Parts, StoredParts, locked, save_arrays, stored
from searchrl.progress import progress_bar
from searchrl.retrieval.ranking import DOCUMENT, FloatArray, IntArray, as_stored
from searchrl.reward.gain import OFFSET, SLOPE, Gains, Judgments, calibrate, ranking_ndcg
from searchrl.reward.reward_model import JudgedPool

GAIN_DEPTH = 10
"""Gains are nDCG@10."""

BLOCK = 8192
"""Queries that are played together. A multiple of 4: so BLAS adds up a row's numbers in the same order in any block."""

OnProgress = Callable[[str, str, int, int], None]
"""Hears of (stage, unit, done, total): of every stage once before its work begins and then after every step.

A "situation" is one query in one state; a "pair" a query and a document to be judged for it.
"""

PartName = Callable[[int, int], str]
"""From a state and a block to the name of their part."""

Column = Callable[[], Array] | Blocks
"""Makes one array of the graph from the parts, so that a graph can be written without standing in memory."""


def describe(game: Game, queries: QuerySet) -> dict[str, object]:
    """Everything that shapes the graph of these queries, JSON-able."""
    judged = {q: dict(queries.qrels.get(q, {})) for q in queries.ids}
    return {
        "game": game.description,
        "queries": list(zip(queries.ids, queries.texts, strict=True)),
        "qrels": judged,
        "own_documents": own_ids(queries, game.corpus),
        "calibration": {"slope": SLOPE, "offset": OFFSET} if game.reward_model else None,
    }


def build_graph(game: Game, queries: QuerySet, on_progress: OnProgress | None = None) -> SearchGraph:
    """Build a graph in memory."""
    columns, facts = finish(game, queries, {}, on_progress)
    return graph_of({name: column() for name, column in columns.items()}, facts)


def finish(
    game: Game, queries: QuerySet, parts: Parts, on_progress: OnProgress | None
) -> tuple[dict[str, Column], dict[str, Any]]:
    """Finish whatever ``parts`` lack; returns the graph's arrays, made when asked for, and its facts."""
    build = _Build(game, queries, parts, on_progress or (lambda stage, unit, done, total: None))
    pool = build.play()
    build.view(pool)
    return build.columns(pool), build.facts()


def _view_part(node: int, block: int) -> str:
    return f"view-{node}-{block}"


class _Build:
    """The stages of one build; each leaves its parts."""

    def __init__(self, game: Game, queries: QuerySet, parts: Parts, report: OnProgress) -> None:
        self.game = game
        self.queries = queries
        self.parts = parts
        self.report = report
        self.tree = game.rules.tree
        n = len(queries)
        self.blocks = [range(start, min(start + BLOCK, n)) for start in range(0, max(n, 1), BLOCK)]
        self.changed = np.unique(self.tree.query_slot, return_index=True)[1].tolist()
        """The states in which each of the tree's queries is current for the first time."""

    def play(self) -> JudgedPool | None:
        """Take every action from every state: encode, search, have judged, reformulate. Returns all that was judged."""
        exclude, pool = own_document(self.queries, self.game.corpus), self.game.pool(self.queries.texts)
        for step in range(self.tree.max_steps + 1):
            level = np.flatnonzero(self.tree.step[: self.tree.open_states] == step).tolist()
            for block, rows, node, state in self._unfinished(f"playing, step {step}", state_part, level):
                if state.action is None:
                    at = self.game.start(self.queries.texts[rows.start : rows.stop])
                else:
                    before = state_of(self.parts, self.tree, state.parent, block)
                    own = exclude[rows.start : rows.stop]
                    at = self.game.advance(before, kind(state.action), own, pool and pool.block(rows))
                self.parts[state_part(node, block)] = part_of(at, state, len(self.game.corpus))
            searched = [node for node in level if self.tree.states[node].searched]
            if pool is not None and searched:
                self._judge(step, searched, pool)
        return pool

    def _judge(self, step: int, searched: Sequence[int], pool: JudgedPool) -> None:
        """Have the reward model score what the searches of one level found."""
        met = self._blocks(state_part, "judged", lambda found: np.concatenate(found, axis=1), searched)
        batches = pool.batches(met())
        stage, done, total = f"judging, step {step}", 0, sum(map(len, batches))
        for i, pairs in enumerate(batches):
            name = f"scores-{step}-{i}"
            if name not in self.parts:
                self.report(stage, "pair", done, total)
                self.parts[name] = Part({"scores": pool.score(pairs)})
            pool.learn(pairs, self.parts[name].arrays["scores"])
            done += len(pairs)
        self.report(stage, "pair", done, total)

    def view(self, pool: JudgedPool | None) -> None:
        """What needs the scores: every state's features, and what an episode that ended there would find and earn."""
        gains_of = self._gains(pool)
        for block, rows, node, state in self._unfinished("ranking", _view_part, range(self.tree.open_states)):
            at, known = state_of(self.parts, self.tree, node, block), pool and pool.block(rows)
            arrays: dict[str, Array] = {"features": self.game.features(at, known)}
            if state.searched:
                finals = self.game.final_rankings(at, known, range(self.tree.n_shares))
                arrays["reward_calls"] = at.reward_calls
                documents = np.stack([final.documents for final in finals], axis=1)
                arrays["final"] = as_stored(documents, len(self.game.corpus))
                arrays["final_scores"] = np.stack([final.scores for final in finals], axis=1)
                gains = [gains_of(rows, final.documents) for final in finals]
                arrays |= {f"gain_{source}": np.stack([gain[source] for gain in gains], axis=1) for source in gains[0]}
            self.parts[_view_part(node, block)] = Part(arrays)

    def columns(self, pool: JudgedPool | None) -> dict[str, Column]:
        """The graph's arrays: what its states hold, side by side, (n, states or slots, ...), and the pool."""

        def column(part: PartName, name: str, nodes: Sequence[int]) -> Blocks:
            return self._blocks(part, name, lambda found: np.stack(found, axis=1), nodes)

        def by_end(name: str) -> Blocks:
            return self._blocks(_view_part, name, lambda found: np.concatenate(found, axis=1), searched)

        searched = self.tree.searched_nodes.tolist()
        of_ends = [x for x in self.parts[_view_part(searched[0], 0)].arrays if x not in ("features", "reward_calls")]
        none = len(self.queries), 0
        documents, scores = pool.arrays() if pool else (np.empty(none, DOCUMENT), np.empty(none, np.float32))
        return {
            "features": column(_view_part, "features", range(self.tree.open_states)),
            "query_vectors": column(state_part, "vectors", self.changed),
            "result_vectors": column(state_part, "result", searched),
            "searched": column(state_part, "documents", searched),
            "reward_calls": column(_view_part, "reward_calls", searched),
            **{name: by_end(name) for name in of_ends},
            "pool": lambda: as_stored(documents, len(self.game.corpus)),
            "pool_scores": lambda: scores,
        }

    def facts(self) -> dict[str, Any]:
        """The rest of the graph, JSON-able."""
        end = self.parts[_view_part(int(self.tree.searched_nodes[0]), 0)]
        return {
            "max_steps": self.tree.max_steps,
            "auto_search": self.tree.auto_search,
            "shares": self.tree.n_shares,
            "query_ids": list(self.queries.ids),
            "texts": [self._texts(node) for node in self.changed],
            "feature_names": list(self.game.feature_names),
            "reformulation_calls": self.game.reformulator.lm_calls,
            "gains": [name.removeprefix("gain_") for name in end.arrays if name.startswith("gain_")],
            "meta": {
                "fingerprint": fingerprint(describe(self.game, self.queries)),
                "processor": processor(),
            },
        }

    def _unfinished(self, stage: str, part: PartName, nodes: Sequence[int]) -> Iterator[tuple[int, range, int, Node]]:
        """Those of some states of each block whose part is missing; reports as they are dealt with."""
        everything = [(block, rows, node) for block, rows in enumerate(self.blocks) for node in nodes]
        todo = [(block, rows, node) for block, rows, node in everything if part(node, block) not in self.parts]
        total = len(nodes) * len(self.queries)
        done = total - sum(len(rows) for _, rows, _ in todo)
        self.report(stage, "situation", done, total)
        for block, rows, node in todo:
            yield block, rows, node, self.tree.states[node]
            done += len(rows)
            self.report(stage, "situation", done, total)

    def _blocks(self, part: PartName, name: str, put: Callable[[list[Array]], Array], nodes: Sequence[int]) -> Blocks:
        """One array of all queries: of each block, what some states hold, put side by side."""
        places = range(len(self.blocks))
        return Blocks(
            len(self.queries),
            lambda: (put([self.parts[part(node, block)].arrays[name] for node in nodes]) for block in places),
        )

    def _texts(self, node: int) -> list[str]:
        blocks = range(len(self.blocks))
        return [text for block in blocks for text in self.parts[state_part(node, block)].facts["texts"]]

    def _gains(self, pool: JudgedPool | None) -> Callable[[range, IntArray], dict[str, FloatArray]]:
        """What (rows, depth) rankings of some of these queries are worth: source of gains -> (rows,) nDCG@10."""
        judged = self.queries.judged
        if pool is not None and self.game.reward_model is not None:
            everything, scores = pool.arrays()
            calibrated = calibrate(scores, self.game.reward_model.absolute)

        def gains(rows: range, documents: IntArray) -> dict[str, FloatArray]:
            found = {}
            if judged:
                judgments = Judgments(self.queries.only(rows), self.game.corpus)
                found["qrels"] = judgments.gain(documents, GAIN_DEPTH)
            if pool is not None:
                known, worth = everything[rows.start : rows.stop], calibrated[rows.start : rows.stop]
                listed = gains_in_pool(documents[:, :GAIN_DEPTH], known, worth)
                found["reward"] = ranking_ndcg(listed, worth, GAIN_DEPTH)
                found["reward_list"] = ranking_ndcg(listed, listed, GAIN_DEPTH)
            return {name: gain.astype(np.float32) for name, gain in found.items()}

        return gains


def gains_in_pool(documents: IntArray, pool: IntArray, worth: Gains) -> Gains:
    """Look up the gains of (n, k) documents among each query's pool (n, P); 0 for a document outside it."""
    same = (documents[:, :, None] == pool[:, None, :]) & (documents >= 0)[:, :, None]
    return np.where(same.any(axis=2), np.take_along_axis(worth, same.argmax(axis=2), axis=1), 0.0)


def obtain_graph(
    game: Game,
    queries: QuerySet,
    cache: Path | None,
    on_progress: OnProgress | None = None,
) -> SearchGraph:
    """Load the stored graph of these queries, or build and store it. A damaged one is rebuilt after a log warning.

    A build that was killed goes on where it stopped. Of several processes that want the same graph one builds it and
    the others wait. Raises OutputError where the cache cannot be written.
    """
    if cache is None:
        return build_graph(game, queries, on_progress)
    name = fingerprint(describe(game, queries))
    folder = cache / "graphs" / name
    with locked(cache / "locks" / f"graph-{name}.lock"):
        graph = stored(folder, "graph", load_graph)
        if graph is None:
            parts = StoredParts(folder.with_name(f".{name}.parts"))
            save_arrays(folder, *finish(game, queries, parts, on_progress))
            graph = load_graph(folder)
        for leftover in folder.parent.glob(f".{name}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return graph


@contextmanager
def build_bar(title: str, show: bool = True) -> Iterator[OnProgress]:
    """A bar for each stage that ``obtain_graph`` reports, with units/s and the time left; none for a graph only loaded.

    What a killed build had finished stands in the bar from the beginning and does not count as speed.
    """
    bars: dict[str, Any] = {}

    def close() -> None:
        for bar in bars.values():
            bar.close()

    def report(stage: str, unit: str, done: int, total: int) -> None:
        if stage not in bars:
            close()
            desc = f"{title}: {stage}"
            bars[stage] = progress_bar(total, desc, unit, show=show, initial=done, leave=False)
        bars[stage].update(done - bars[stage].n)

    try:
        yield report
    finally:
        close()
