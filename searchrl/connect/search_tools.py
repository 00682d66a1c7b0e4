"""Search as tools for a language-model agent: search, narrow, broaden, submit; the reward is what was submitted.

``SearchTasks`` is what TRL's ``GRPOTrainer(environment_factory=...)`` takes: called, it gives an environment. It needs
no package of its own. OpenEnv's and verifiers' environments are made of it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from searchrl.config import pick_settings
from searchrl.data.dataset import Split
from searchrl.data.own_document import own_document
from searchrl.env.build import build_graph
from searchrl.env.tree import Action
from searchrl.experiment.parts import make_game, open_models
from searchrl.experiment.prepare import read_collection
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT
from searchrl.reward.gain import best_gains, calibrate, ndcg_at_k, ranking_ndcg

INSTRUCTIONS = (
    "Find the documents that answer the question. Use the tools to search; then submit the ids of the documents, the "
    "best first."
)


class SearchTasks:
    """The queries of one split as tasks, and the models that they are played with; threads may share it.

    settings: as ``prepare`` takes them. ``reward="qrels"`` (default) pays nDCG@10 of what is submitted by human
    judgments; ``"lm"`` or ``"head"`` by a reward model, the ideal being over all that its search graph and the agent
    met. shown: documents in an answer; words: how much of each; max_calls: searches in an episode. Close it when done.
    """

    def __init__(
        self,
        dataset: str = "pydocs",
        split: Split = "train",
        *,
        shown: int = 5,
        words: int = 60,
        max_calls: int = 5,
        seed: int = 42,
        **settings: Any,
    ) -> None:
        data, models, game = pick_settings({"dataset": dataset, "retriever": "hybrid", **settings})
        collection = read_collection(data, seed)
        self.queries = collection.queries(split)
        """One task each."""
        self.shown, self.words, self.max_calls = shown, words, max_calls
        self._by_people = game.reward == "qrels"
        self._models = open_models(models, game)
        self.game = make_game(game, collection.dataset.corpus, self._models)
        self.own = own_document(self.queries, self.game.corpus)
        self.lock = threading.RLock()
        """Held while the models work."""
        self._pools: dict[int, np.ndarray[Any, Any]] = {}

    def __call__(self) -> SearchTools:
        """An environment of its own, which shares the models."""
        return SearchTools(self)

    def rows(self, instructions: str = INSTRUCTIONS) -> list[dict[str, Any]]:
        """A row a task, for a training dataset: the prompt, and the ``query_id`` that ``reset`` takes."""
        return [
            {"prompt": [{"role": "user", "content": f"{instructions}\n"}], "query_id": query_id}
            for query_id in self.queries.ids
        ]

    def gain(self, row: int, ids: Sequence[str]) -> float:
        """What a list of document ids is worth for a query, 0 to 1; ids that do not exist gain nothing."""
        position = self.game.corpus.position
        if self._by_people:
            return judged_gain(ids, self.queries.qrels.get(self.queries.ids[row], {}))
        with self.lock:
            if row not in self._pools:
                graph = build_graph(self.game, self.queries.only([row]))
                self._pools[row] = np.asarray(graph.pool[0][graph.pool[0] != NO_DOCUMENT])
            documents = [position.get(one, NO_DOCUMENT) for one in ids[:10]]
            known = np.array([d for d in documents if d != NO_DOCUMENT], dtype=DOCUMENT)
            everything = np.union1d(self._pools[row], known)[None]
            pool = self.game.pool([self.queries.texts[row]])
            assert pool
            pool.ensure(everything)
            gains = calibrate(pool.lookup(everything), self._models.reward_model.absolute)[0]  # type: ignore[union-attr]
        worth = dict(zip(everything[0].tolist(), gains.tolist(), strict=True))
        return float(ranking_ndcg([worth.get(d, 0.0) for d in documents], gains))

    def close(self) -> None:
        """Close the models."""
        self._models.close()


def judged_gain(ids: Sequence[str], judged: Mapping[str, int]) -> float:
    """nDCG@10 of a list of document ids, best first, by the grades of one query's documents."""
    return float(ndcg_at_k([judged.get(one, 0) for one in ids[:10]], best_gains(list(judged.values()) or [0], 10)))


class SearchTools:
    """One task after another, played by calling its public methods; all but ``reset`` and ``get_reward`` are tools."""

    def __init__(self, tasks: SearchTasks) -> None:
        self._tasks = tasks
        self._random = np.random.default_rng(0)
        self._over = True
        self._reward = 0.0

    def reset(self, query_id: str | None = None, seed: int | None = None, **columns: Any) -> str:
        """Begin the task of a query, or of one that is drawn; returns the question. Other keywords are ignored.

        Raises ValueError where there is no such query.
        """
        tasks = self._tasks
        if seed is not None:
            self._random = np.random.default_rng(seed)
        ids = tasks.queries.ids
        if query_id is not None and query_id not in ids:
            raise ValueError(f"query_id {query_id!r}: no such query among the {len(ids)} played here")
        self._row = int(self._random.integers(len(ids))) if query_id is None else list(ids).index(query_id)
        with tasks.lock:
            self._at = tasks.game.start([tasks.queries.texts[self._row]])
        self._calls, self._over, self._reward = 0, False, 0.0
        return f"Question: {tasks.queries.texts[self._row]}"

    def search(self, query: str) -> str:
        """Search the collection.

        Args:
            query: What to search for, in your own words.

        Returns:
            The best documents: id, title and beginning of each.
        """
        self._call()
        game = self._tasks.game
        with self._tasks.lock:
            asked = replace(self._at, current=game.retriever.queries([query]), searched=False)
            self._at = game.advance(asked, Action.SEARCH, self._own())
        return self._found()

    def narrow(self) -> str:
        """Search again for what the documents found last do not say yet.

        Returns:
            The best documents: id, title and beginning of each.
        """
        return self._reformulate(Action.NARROW)

    def broaden(self) -> str:
        """Search again for more like the documents found last.

        Returns:
            The best documents: id, title and beginning of each.
        """
        return self._reformulate(Action.BROADEN)

    def submit(self, ids: list[str]) -> str:
        """Give the answer and end the task.

        Args:
            ids: Ids of the documents that answer the question, the best first; ten at most count.

        Returns:
            A confirmation.
        """
        self._begun()
        if len(set(ids)) < len(ids):
            raise ValueError("an id is named twice")
        self._reward, self._over = self._tasks.gain(self._row, ids), True
        return f"{len(ids)} documents were submitted."

    def get_reward(self) -> float:
        """What was submitted is worth, 0 to 1; 0 where nothing was."""
        return self._reward

    def _reformulate(self, action: Action) -> str:
        if not self._over and not self._at.rankings:
            raise ValueError("nothing was found yet: call search first")
        self._call()
        game = self._tasks.game
        with self._tasks.lock:
            self._at = game.advance(self._at, action, self._own())
            if not self._at.searched:
                self._at = game.advance(self._at, Action.SEARCH, self._own())
        return self._found()

    def _begun(self) -> None:
        if self._over:
            raise ValueError("the task is over")

    def _call(self) -> None:
        self._begun()
        if self._calls >= self._tasks.max_calls:
            raise ValueError("no searches are left: submit the ids of the best documents")
        self._calls += 1

    def _own(self) -> Any:
        return self._tasks.own[self._row : self._row + 1]

    def _found(self) -> str:
        corpus = self._tasks.game.corpus
        documents = self._at.rankings[-1].documents[0]
        lines = [
            f"[{corpus.ids[d]}] {' '.join(corpus.full_text(int(d)).split()[: self._tasks.words])}"
            for d in documents[documents != NO_DOCUMENT][: self._tasks.shown]
        ]
        return "\n".join(lines) or "Nothing was found."
