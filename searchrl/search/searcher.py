"""One collection, searched in this process without an event loop: by one plain search, or by a trained agent."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from searchrl.checks import whole
from searchrl.config import pick_settings
from searchrl.data.dataset import Dataset
from searchrl.experiment.parts import make_encoder, make_loader
from searchrl.experiment.prepare import read_collection
from searchrl.retrieval.build import build_index
from searchrl.search.corpus import Agent, Asked, Found, IndexedCorpus, PlayAgent, SinglePass
from searchrl.search.results import text_list


class Searcher:
    """Finds documents of one collection.

    dataset: as ``load_dataset`` takes it, or a dataset read before. policy: a checkpoint; its agent then searches.
    settings: fields of ``DataConfig`` and ``ModelConfig``, and ``retriever``, ``hybrid`` unless given, which a plain
    search uses. Threads may share it: they take turns. Errors: as ``prepare``, and those of ``Agent``. Close it when
    done, or use ``with``.
    """

    def __init__(
        self, dataset: str | Dataset = "pydocs", policy: str | Path | None = None, *, seed: int = 42, **settings: Any
    ) -> None:
        if isinstance(dataset, str):
            settings["dataset"] = dataset
        data, models, game = pick_settings({"retriever": "hybrid", **settings})
        self.dataset = read_collection(data, seed).dataset if isinstance(dataset, str) else dataset
        """What is searched, and its judged queries."""
        self._loader = make_loader(models)
        encoder = make_encoder(models, self._loader.device)
        self._agent = Agent(Path(policy), models, encoder) if policy else None
        corpus = self.dataset.corpus
        index = build_index(corpus, encoder, self._loader.cache, models.indexing)
        self._index = IndexedCorpus(corpus, index, encoder)
        self._search = PlayAgent(self._agent, self._index) if self._agent else SinglePass(self._index, game.retriever)
        self._lock = threading.Lock()

    def search(self, queries: Sequence[str], k: int = 10) -> list[list[Found]]:
        """The k best documents of each query, best first. Raises DataError where queries are not a list of texts."""
        k = whole("k", k, 1)
        asked = [Asked(query, k) for query in text_list("queries", queries)]
        with self._lock:
            return [answer.keys for answer in self._search(asked)] if asked else []

    def close(self) -> None:
        """Close what the models keep open; the object is of no use afterwards."""
        if self._agent:
            self._agent.close()
        self._loader.close()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
