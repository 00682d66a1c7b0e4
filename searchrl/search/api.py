"""``Search``: which of these keys answer these queries best, by the judgment of a reward model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchrl.checks import typed, whole
from searchrl.config import DtypeName, EngineConfig, EngineName, ScorerName
from searchrl.errors import ConfigError, nearest
from searchrl.models.language_model import FloatArray
from searchrl.models.loader import ModelLoader
from searchrl.progress import progress_bar
from searchrl.retrieval.ranking import DOCUMENT, IntArray
from searchrl.reward.registry import ScorerSettings, make_reward
from searchrl.reward.reward_model import CachedReward, RewardModel
from searchrl.search.corpus import CandidateFinder, CandidatesName
from searchrl.search.results import (
    COLUMNS,
    SearchResult,
    best_of_groups,
    check_groups,
    column_of,
    ranked,
    result_frame,
    text_column,
    text_list,
    write_results,
)
from searchrl.search.worker import Score, Worker
from searchrl.threads import lazy

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, import-not-found, unused-ignore]

    from searchrl.retrieval.dense import TextEncoder

QUERY, KEY = "{query}", "{key}"

QUERIES_AT_ONCE = 32
"""Queries that are scored together: a key is then read once for all of them, by scorers that can."""

PAIRS_AT_ONCE = 128
"""Pairs scored between two looks at the event loop, and lost at most when a job is killed."""

Scored = tuple[int, IntArray, FloatArray]
"""A query's position, the keys scored for it, (m,), and their scores, (m,)."""


OPTIONS: dict[str, Any] = {
    "query_template": str,
    "key_template": str,
    "llm_template": None,
    "device": str,
    "dtype": DtypeName,
    "cache": bool,
    "retriever": CandidatesName,
    "candidates": int,
    "candidates_above": int,
    "show_progress": bool,
}
"""Plain arguments of ``Search`` and their types; None: of several."""


def check_options(**options: Any) -> None:
    """Raise ConfigError where ``Search`` has no such argument, or one of another type."""
    for name, value in options.items():
        if name not in OPTIONS:
            raise ConfigError(f"unknown argument {name!r}; {nearest(name, OPTIONS)}")
        if OPTIONS[name] is not None:
            typed(OPTIONS[name], value, f"`{name}`")


def check_model(name: str, model: object, method: str) -> None:
    """Raise ConfigError where a model is neither named (None: the default), nor set, nor one that has ``method``."""
    if not (isinstance(model, str | ScorerSettings | None) or callable(getattr(model, method, None))):
        raise ConfigError(f"`{name}` {model!r:.60}: give a name, or an object with the method {method}")


class Search:
    """Ranks keys for queries by a reward model's relevance.

    model_name: a folder, a hub name or a preset; None for the device's language model (on a CPU the installed
    smollm2-135m). scorer: how it scores, which ``auto`` tells from its files; a ``ScorerSettings``, which has more to
    set; or a reward model, ready made, instead of a name. query_template, key_template: texts with ``{query}`` and
    ``{key}`` in them, put around what the model reads. llm_template: the whole prompt of a reward model with a head,
    instead of its chat template: a text with both in it, or a function of query and key that gives one. engine:
    ``transformers``, ``http`` (needs ``base_url``) or ``vllm`` (the only one with parallel sizes above 1); or an
    ``EngineConfig``, which has more to set. device, dtype, cache: see ``ModelLoader``.

    With more than ``candidates_above`` keys, the ``candidates`` best of them for each query (k, if that is more), found
    by ``retriever`` with ``encoder`` (a name, or one ready made), are scored, and no others.

    Models run in a thread of their own (``worker``, to share one), one piece of work at a time. Raises ConfigError on
    an impossible setting, ModelError where the model cannot be had. Close it when done, or use ``async with``.
    """

    def __init__(
        self,
        model_name: str | None = None,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        llm_template: str | Callable[[str, str], str] | None = None,
        *,
        scorer: ScorerName | ScorerSettings | RewardModel = "auto",
        query_template: str = QUERY,
        key_template: str = KEY,
        engine: EngineName | EngineConfig = "transformers",
        base_url: str | None = None,
        device: str = "auto",
        dtype: DtypeName = "auto",
        cache: bool = True,
        encoder: str | TextEncoder = "all-MiniLM-L6-v2",
        retriever: CandidatesName = "hybrid",
        candidates: int = 100,
        candidates_above: int = 1000,
        show_progress: bool = True,
        worker: Worker | None = None,
    ) -> None:
        typed(str | None, model_name, "`model_name`")
        check_model("scorer", scorer, "score")
        check_model("encoder", encoder, "encode")
        check_options(
            query_template=query_template,
            key_template=key_template,
            device=device,
            dtype=dtype,
            cache=cache,
            retriever=retriever,
            show_progress=show_progress,
        )
        candidates, candidates_above = (
            whole("candidates", candidates, 1),
            whole("candidates_above", candidates_above, 0),
        )
        if isinstance(engine, str):
            engine = EngineConfig(
                engine=engine,
                base_url=base_url,
                tensor_parallel_size=tensor_parallel_size,
                pipeline_parallel_size=pipeline_parallel_size,
            )
        elif not isinstance(engine, EngineConfig):
            raise ConfigError(f"`engine` {engine!r:.60}: give a name or an EngineConfig")
        elif (base_url, tensor_parallel_size, pipeline_parallel_size) != (None, 1, 1):
            raise ConfigError("base_url and parallel sizes belong into the EngineConfig that is given as engine")
        self._loader = ModelLoader(engine, device=device, dtype=dtype, cache=cache)
        self._encoder_given = encoder
        self._finder = CandidateFinder(lambda: self._encoder, retriever, self._loader.cache)
        self._candidates, self._candidates_above = candidates, candidates_above
        self.reward = self._reward(model_name, scorer, llm_template)
        """What scores; the templates, where they are not the plain ones, included."""
        if (query_template, key_template) != (QUERY, KEY):
            self.reward = TemplatedReward(self.reward, query_template, key_template)
        # With a server, several rounds of requests, or it waits for the slowest of each.
        rounds = 8 * self._loader.config.concurrency if self._loader.engine == "http" else 0
        self._pairs_at_once = max(PAIRS_AT_ONCE, rounds)
        self._worker = worker or Worker(max_batch=self._pairs_at_once)
        self._owns_worker = worker is None
        self._show_progress = show_progress
        self._results: list[SearchResult] | None = None

    def _reward(
        self,
        model_name: str | None,
        scorer: ScorerName | ScorerSettings | RewardModel,
        llm_template: str | Callable[[str, str], str] | None,
    ) -> RewardModel:
        if isinstance(scorer, str):
            scorer = ScorerSettings(scorer)
        template = llm_template(QUERY, KEY) if callable(llm_template) else llm_template
        if template is not None and (not isinstance(template, str) or not isinstance(scorer, ScorerSettings)):
            raise ConfigError("llm_template must be, or give, a text, and needs a model that is named")
        if isinstance(scorer, ScorerSettings):
            scorer = scorer if template is None else replace(scorer, llm_template=template)
            return make_reward(model_name, scorer, self._loader)
        if model_name is not None:
            raise ConfigError(f"model_name {model_name!r} with a scorer that is ready made: give one of the two")
        return scorer

    @lazy
    def _encoder(self) -> TextEncoder:
        if not isinstance(self._encoder_given, str):
            return self._encoder_given
        from searchrl.models.encoder import Encoder

        return Encoder(self._encoder_given, self._loader.device.device)

    async def __call__(
        self,
        queries: Sequence[str],
        keys: Sequence[str],
        k: int | None = 10,
        return_relevance: bool = False,
        *,
        exhaustive: bool = False,
        checkpoint: str | Path | None = None,
    ) -> list[SearchResult]:
        """The k most relevant keys of each query (None: all that were scored), in the order of the queries.

        return_relevance: with their relevance, on the scorer's own scale. exhaustive: score every key, however many
        there are. checkpoint: a file that keeps scores as they come; the same call goes on from it. Raises DataError
        where queries or keys are not lists of texts, CheckpointError where the file cannot be used, ModelError and
        EngineError where scoring fails; what was scored by then is in the checkpoint.
        """
        stream = self.stream(queries, keys, k, return_relevance, exhaustive=exhaustive, checkpoint=checkpoint)
        return [result async for result in stream]

    async def stream(
        self,
        queries: Sequence[str],
        keys: Sequence[str],
        k: int | None = 10,
        return_relevance: bool = False,
        *,
        exhaustive: bool = False,
        checkpoint: str | Path | None = None,
    ) -> AsyncGenerator[SearchResult, None]:
        """As ``__call__``, but each query's result as soon as it is ready."""
        k = None if k is None else whole("k", k, 1)
        queries, keys = text_list("queries", queries), text_list("keys", keys)
        count = len(keys)
        if not exhaustive and len(keys) > self._candidates_above:
            count = min(max(self._candidates, k or 1), len(keys))
        results: list[SearchResult] = []
        self._results = results
        async with aclosing(self._scored(queries, keys, count, checkpoint)) as scored:
            async for i, key_ids, scores in scored:
                results.append(ranked(i, queries[i], keys, key_ids, scores, k, return_relevance))
                yield results[-1]

    async def get_relevance(
        self, queries: Sequence[str], keys: Sequence[str], *, checkpoint: str | Path | None = None
    ) -> FloatArray:
        """The relevance of every key to every query, (n_queries, n_keys) float32. Errors: as ``__call__``."""
        queries, keys = text_list("queries", queries), text_list("keys", keys)
        matrix = np.zeros((len(queries), len(keys)), dtype=np.float32)
        async with aclosing(self._scored(queries, keys, len(keys), checkpoint)) as scored:
            async for i, _, scores in scored:
                matrix[i] = scores
        return matrix

    async def search_by_df(
        self,
        df_queries: pd.DataFrame,
        df_keys: pd.DataFrame,
        k: int | None = 10,
        *,
        query_column: str = "query",
        key_column: str = "key",
        group: str | None = None,
        exhaustive: bool = False,
        checkpoint: str | Path | None = None,
    ) -> pd.DataFrame:
        """As ``__call__`` with texts from data frames: a frame of query_id, query, rank, key_id, key, relevance.

        Ids are the frames' columns ``query_id`` and ``key_id``, or else their indexes. group: a column of ``df_keys``;
        each query then gets the k best keys of each group, all keys being scored. Raises DataError on a missing column
        or a row without text.
        """
        k = None if k is None else whole("k", k, 1)
        if isinstance(group, str) and group in COLUMNS:
            raise ConfigError(f"group {group!r}: the result has a column of that name; rename it in df_keys")
        queries = text_column(df_queries, query_column, "query_id")
        keys = text_column(df_keys, key_column, "key_id")
        groups = None if group is None else check_groups(column_of(df_keys, group))
        texts, depth = (queries.tolist(), keys.tolist()), k if groups is None else None
        everything = exhaustive or groups is not None
        results = await self(*texts, depth, True, exhaustive=everything, checkpoint=checkpoint)
        if groups is not None:
            self._results = results = best_of_groups(results, groups, k)
        return result_frame(results, queries, keys, groups)

    async def _scored(
        self, queries: Sequence[str], keys: Sequence[str], count: int, checkpoint: str | Path | None
    ) -> AsyncGenerator[Scored, None]:
        """Score ``count`` keys of each query, chosen by the finder where that is not all of them; queries in order."""
        run = self._worker.run
        store = await run(lambda: CachedReward(self.reward, Path(checkpoint))) if checkpoint else None
        with ExitStack() as opened:
            if store:  # a chunk that nobody waits for any more is still written
                opened.callback(self._worker.afterwards, store.close)
            bar = opened.enter_context(progress_bar(len(queries) * count, "scoring", "pair", show=self._show_progress))
            for start in range(0, len(queries), QUERIES_AT_ONCE):
                block = queries[start : start + QUERIES_AT_ONCE]
                if count < len(keys):
                    chosen = await run(partial(self._finder.find, block, keys, count, self._show_progress))
                else:
                    chosen = np.tile(np.arange(count, dtype=DOCUMENT), (len(block), 1))
                scores = await self._score(Score(store or self.reward), block, keys, chosen, bar)
                for i in range(len(block)):
                    yield start + i, chosen[i], scores[i]

    async def _score(
        self, score: Score, queries: Sequence[str], keys: Sequence[str], chosen: IntArray, bar: Any
    ) -> FloatArray:
        """Scores of each query with its own keys; chosen and result (n, m).

        Chunks are of neighbouring keys, so that a key meets all its queries in one; pairs of equal texts are scored
        once in it.
        """
        scores = np.zeros(chosen.size, dtype=np.float32)
        order = np.argsort(chosen, axis=None, kind="stable")
        for start in range(0, len(order), self._pairs_at_once):
            part = order[start : start + self._pairs_at_once]
            pairs = [(queries[i // chosen.shape[1]], keys[chosen.flat[i]]) for i in part]
            distinct = list(dict.fromkeys(pairs))
            known = dict(zip(distinct, await self._worker.submit(score, distinct), strict=True))
            scores[part] = [known[pair] for pair in pairs]
            bar.update(len(part))
        return scores.reshape(chosen.shape)

    def save_results(self, path: str | Path) -> None:
        """Write what the newest search has found so far: see ``results.write_results``.

        Raises ConfigError before the first search.
        """
        if self._results is None:
            raise ConfigError(f"there are no results to write to {path}: search first")
        write_results(Path(path), self._results)

    def close(self) -> None:
        """Finish the work at hand and close files; the object is of no use afterwards."""
        if self._owns_worker:
            self._worker.close()
        self._loader.close()

    async def __aenter__(self) -> Search:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class TemplatedReward:
    """Scores ``query_template`` and ``key_template``, filled in, with another reward model.

    ``{query}`` and ``{key}`` stand for the texts; any other brace is a brace. Raises ConfigError where one is missing.
    """

    reward: RewardModel
    query_template: str = QUERY
    key_template: str = KEY

    def __post_init__(self) -> None:
        for name, place in (("query_template", QUERY), ("key_template", KEY)):
            template = getattr(self, name)
            if place not in template:
                raise ConfigError(f"{name} {template!r} has no place for the text: write {place} where it goes")

    @property
    def fingerprint(self) -> str:
        """The reward model's, with the templates."""
        templates = json.dumps([self.query_template, self.key_template])
        return f"{self.reward.fingerprint} {hashlib.sha256(templates.encode()).hexdigest()[:16]}"

    @property
    def absolute(self) -> bool:
        """The reward model's own."""
        return self.reward.absolute

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """See ``RewardModel.score``."""
        return self.reward.score(
            [self.query_template.replace(QUERY, query) for query in queries],
            [self.key_template.replace(KEY, document) for document in documents],
        )
