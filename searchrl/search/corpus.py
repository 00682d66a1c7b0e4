"""Indexed corpora, and what searches them: one plain search or the trained agent; of many keys, those worth scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args
from weakref import WeakKeyDictionary

import numpy as np

from searchrl.config import ModelConfig, RetrieverName, TrainConfig
from searchrl.data.dataset import Corpus
from searchrl.data.records import Document
from searchrl.errors import CheckpointError, ConfigError, DataError, nearest
from searchrl.retrieval.dense import DenseIndex, TextEncoder, build_dense_index, encode_texts
from searchrl.retrieval.index import Index
from searchrl.retrieval.lexical import LexicalIndex
from searchrl.retrieval.memory import MemoryIndex
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, FloatArray, IntArray, Ranking
from searchrl.retrieval.retriever import LEXICAL_SHARE, Retriever
from searchrl.search.worker import Lane, tokens_of

if TYPE_CHECKING:  # these load torch, which most of a search does without
    from searchrl.env.game import Game
    from searchrl.env.live import Episode, Playing, Step, ToJudge
    from searchrl.reward.reward_model import RewardModel

CandidatesName = Literal["dense", "hybrid", "tagtree"]

DEPTH = 100
"""Documents in a ranking, at most."""

BEAM_WIDTH = 16
"""Clusters of tags that a query follows on each level of a tag tree."""


class Asked(NamedTuple):
    """One query, and how many documents it wants."""

    query: str
    k: int


class Found(NamedTuple):
    """One document of an answer."""

    key_id: str | int
    title: str
    key: str
    score: float


@dataclass(frozen=True)
class Answer:
    """What was found for one query."""

    keys: list[Found]
    steps: list[dict[str, Any]] = field(default_factory=list)
    """What the agent did, a dictionary a step (``PlayAgent``); empty for a single pass."""
    stopped: str | None = None
    """The limit that ended the search before it was done, if any did; what is here is the best until then."""


@dataclass(frozen=True, eq=False)
class IndexedCorpus:
    """A corpus with its index, ready to be searched."""

    corpus: Corpus
    index: Index
    encoder: TextEncoder

    def retriever(self, kind: RetrieverName, depth: int = DEPTH) -> Retriever:
        """First-stage search of this corpus."""
        return Retriever(self.encoder, self.index, LEXICAL_SHARE[kind], depth)

    def read(self, positions: Iterable[int]) -> dict[int, Document]:
        """Documents by their position."""
        corpus = self.corpus
        return {int(p): (corpus.ids[p], corpus.titles[p], corpus.texts[p]) for p in positions}

    def found(self, ranking: Ranking, k: int) -> list[Found]:
        """The first k documents of one ranking, (1, depth), with their texts."""
        documents, scores = ranking.documents[0, :k], ranking.scores[0, :k]
        texts = self.read(documents[documents != NO_DOCUMENT])
        return [
            Found(*texts[int(d)], float(s))
            for d, s in zip(documents, scores, strict=True)
            if d != NO_DOCUMENT and np.isfinite(s)
        ]


@dataclass(frozen=True)
class SinglePass:
    """``worker.Work``: queries to the documents that one plain search of a corpus finds."""

    index: IndexedCorpus
    retriever: RetrieverName
    lane: Lane = "search"

    def tokens(self, item: Asked) -> int:
        """Those of the query."""
        return tokens_of(item.query)

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a query."""
        search = self.index.retriever(self.retriever, depth=max(a.k for a in asked))
        ranking = search.search(search.queries([a.query for a in asked]))
        return [Answer(self.index.found(ranking.row(i), a.k)) for i, a in enumerate(asked)]


class CandidateFinder:
    """Finds the keys that embeddings, or embeddings and BM25 (``hybrid``), rank highest.

    ``tagtree`` ranks by embeddings, too, but only the keys that a query reaches by a walk down the tree of their tags,
    keyphrases here: about a tenth of them, at least twice as many as are asked for (see ``tagtree/retriever.py``).

    cache: folder where the keys' vectors are kept; None to encode them anew. The index of the keys searched last stays
    in memory. Raises ConfigError on an unknown retriever.
    """

    def __init__(self, encoder: Callable[[], TextEncoder], retriever: CandidatesName, cache: Path | None) -> None:
        if retriever not in get_args(CandidatesName):
            raise ConfigError(f"unknown retriever {retriever!r}: {nearest(str(retriever), get_args(CandidatesName))}")
        self._encoder, self._retriever, self._cache = encoder, retriever, cache
        self._keys = ""
        self._search: Callable[[Sequence[str], int], IntArray] | None = None

    def find(self, queries: Sequence[str], keys: Sequence[str], count: int, show_progress: bool) -> IntArray:
        """Indices of the ``count`` best keys for each query, best first, (n, count); count at most ``len(keys)``."""
        corpus = Corpus([str(i) for i in range(len(keys))], [""] * len(keys), keys)
        if self._search is None or corpus.fingerprint != self._keys:
            self._search = self._index(corpus, show_progress)
            self._keys = corpus.fingerprint
        return self._search(queries, count)

    def _index(self, corpus: Corpus, show_progress: bool) -> Callable[[Sequence[str], int], IntArray]:
        encoder = self._encoder()
        dense = build_dense_index(corpus, encoder, self._cache, show_progress)
        if self._retriever == "tagtree":
            return _tagtree(corpus, encoder, dense, self._cache)
        if self._retriever == "hybrid":
            index = IndexedCorpus(corpus, MemoryIndex(dense, LexicalIndex(corpus)), encoder)

            def hybrid(queries: Sequence[str], count: int) -> IntArray:
                retriever = index.retriever("hybrid", count)
                return retriever.search(retriever.queries(queries)).documents

            return hybrid
        return lambda queries, count: dense.search(_vectors(encoder, queries), count, _anywhere(queries)).documents


def _tagtree(
    corpus: Corpus, encoder: TextEncoder, dense: DenseIndex, cache: Path | None
) -> Callable[[Sequence[str], int], IntArray]:
    from searchrl.retrieval.tagtree.build import as_corpus, keyphrase_tree
    from searchrl.retrieval.tagtree.retriever import TagTreeRetriever, candidates_for

    def embed(tags: Sequence[str]) -> FloatArray:
        return build_dense_index(as_corpus(tags), encoder, cache, show_progress=False).vectors

    try:
        tree = keyphrase_tree(corpus.texts, dense.vectors, embed)
    except DataError as error:
        raise DataError(f"retriever 'tagtree': {error}; or use retriever 'dense' or 'hybrid'") from error
    retriever = TagTreeRetriever(tree, dense.vectors)

    def search(queries: Sequence[str], count: int) -> IntArray:
        vectors, scored = _vectors(encoder, queries), candidates_for(count, len(corpus))
        found = retriever.search(vectors, count, _anywhere(queries), beam_width=BEAM_WIDTH, candidates=scored)
        return found.ranking.documents

    return search


def _vectors(encoder: TextEncoder, queries: Sequence[str]) -> FloatArray:
    return encode_texts(encoder, queries, "query")


def _anywhere(queries: Sequence[str]) -> IntArray:
    return np.full(len(queries), NO_DOCUMENT, dtype=DOCUMENT)


class Agent:
    """A policy and what it was trained with; the models that its rules need are loaded when they are first needed.

    models: device, cache and engine to run them with; everything else is as in training. encoder: what corpora are
    indexed with. Raises CheckpointError where the file is no policy, or one for another encoder, ConfigError where its
    settings are not this version's, ModelError where a model of its cannot be had. Close it when done.
    """

    def __init__(self, path: Path, models: ModelConfig, encoder: TextEncoder) -> None:
        from searchrl.agent.checkpoint import load_policy
        from searchrl.config_file import from_json
        from searchrl.experiment.evaluate import model_settings
        from searchrl.experiment.parts import make_loader, make_reward_model

        self.path = path
        self.checkpoint = load_policy(path)
        trained = from_json(TrainConfig, self.checkpoint.config, str(path))
        if self.checkpoint.encoder != encoder.fingerprint:
            raise CheckpointError(
                f"{path}: made for the embeddings of encoder {self.checkpoint.encoder} ({trained.models.encoder}), not "
                f"{encoder.fingerprint}, which runs here; choose encoder {trained.models.encoder}"
            )
        self._models = model_settings(trained, device=models.device, cache=models.cache, serving=models.serving)
        self._game_config = trained.game
        self._loader = make_loader(self._models)
        self._reward_model = make_reward_model(self._models, trained.game, self._loader)  # what is missing is said now
        self.retriever = trained.game.retriever
        """What the agent's first search uses."""
        self._games: WeakKeyDictionary[IndexedCorpus, Game] = WeakKeyDictionary()

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to say about it."""
        checkpoint = self.checkpoint
        return {"checkpoint": self.path.name, "trained_on": checkpoint.dataset, "episode": checkpoint.episode}

    def play(self, index: IndexedCorpus, texts: Sequence[str]) -> list[Episode]:
        """One episode a query. Raises CheckpointError where the policy reads other features than this version has."""
        from searchrl.env.live import play_live

        return play_live(self.checkpoint.policy, self._game(index), texts)

    def in_turns(self, index: IndexedCorpus, query: str) -> Playing:
        """The episode of one query; what it wants judged, it asks for. Errors: as ``play``, when it begins."""
        from searchrl.env.live import play_in_turns

        return play_in_turns(self.checkpoint.policy, self._game(index), [query])

    @property
    def lane(self) -> Lane:
        """Where its steps belong: with the language model's work where that rewrites its queries."""
        from searchrl.experiment.parts import reformulator_name

        return "play" if reformulator_name(self._game_config, self._models, self._loader) == "feedback" else "agent"

    @property
    def reward(self) -> RewardModel | None:
        """What its policy wants documents judged by, if anything."""
        return self._reward_model

    def close(self) -> None:
        """Close the language model's cache, if it was opened."""
        self._loader.close()

    def _game(self, index: IndexedCorpus) -> Game:
        from searchrl.env.game import Game
        from searchrl.experiment.parts import make_reformulator, make_rules

        if index not in self._games:
            config = self._game_config
            retriever = index.retriever(config.retriever, config.depth)
            reformulator = make_reformulator(config, self._models, self._loader, index.corpus, retriever)
            game = Game(index.corpus, retriever, reformulator, self._reward_model, make_rules(config))
            if tuple(self.checkpoint.feature_names) != game.feature_names:
                raise CheckpointError(f"{self.path}: made for other features; train a policy with this version")
            self._games[index] = game
        return self._games[index]


@dataclass(frozen=True)
class PlayAgent:
    """``worker.Work``: queries to the documents that the agent finds in a corpus, and what it did on the way."""

    agent: Agent
    index: IndexedCorpus

    @property
    def lane(self) -> Lane:
        """The agent's."""
        return self.agent.lane

    def tokens(self, item: Asked) -> int:
        """Those of the query."""
        return tokens_of(item.query)

    def __call__(self, asked: Sequence[Asked]) -> list[Answer]:
        """One answer a query."""
        episodes = self.agent.play(self.index, [a.query for a in asked])
        return [self.answer(episode, a.k) for episode, a in zip(episodes, asked, strict=True)]

    def answer(self, episode: Episode, k: int) -> Answer:
        """An episode as an answer."""
        assert episode.final is not None
        return Answer(self.index.found(episode.final, k), [self._trace(step, k) for step in episode.steps])

    def _trace(self, step: Step, k: int) -> dict[str, Any]:
        return {
            "action": step.action.name.lower(),
            "probabilities": step.probabilities,
            "query": step.query,
            "lexical_share": step.lexical_share,
            "similarity": step.similarity,
            "trust": step.trust,
            "keys": None if step.ranking is None else self.index.found(step.ranking, k),
        }


class Play:
    """One episode at play, from one wish for judgments to the next. ``stop``: end it where it is."""

    def __init__(self, agent: Agent, index: IndexedCorpus, asked: Asked) -> None:
        self._agent, self._index, self._asked = agent, index, asked
        self._playing: Playing | None = None
        self.stop = False

    def advance(self) -> ToJudge | Answer:
        """Play on, as far as it goes without another judgment."""
        try:
            if self._playing is None:
                self._playing = self._agent.in_turns(self._index, self._asked.query)
                return next(self._playing)
            return self._playing.send(not self.stop)
        except StopIteration as end:
            return PlayAgent(self._agent, self._index).answer(end.value[0], self._asked.k)


@dataclass(frozen=True)
class Advance:
    """``worker.Work``: plays to what they want judged next, or their answers. A play's error is its result: it cannot
    be tried again.
    """

    lane: Lane

    def tokens(self, item: Play) -> int:
        """About those of a query."""
        return 16

    def __call__(self, plays: Sequence[Play]) -> list[ToJudge | Answer | Exception]:
        """One step a play."""
        return [self._step(play) for play in plays]

    @staticmethod
    def _step(play: Play) -> ToJudge | Answer | Exception:
        try:
            return play.advance()
        except Exception as error:
            return error
