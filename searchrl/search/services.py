"""``Services``: a reward model, a language model that writes and an encoder, together behind one object."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from searchrl.config import DtypeName, EngineConfig, EngineName
from searchrl.models.language_model import FloatArray
from searchrl.models.loader import ModelLoader
from searchrl.reward.scorers import ScorerName, ScorerSettings, make_scorer
from searchrl.search.api import Search
from searchrl.search.results import SearchResult
from searchrl.search.texts import text_list
from searchrl.search.worker import Worker
from searchrl.threads import lazy

if TYPE_CHECKING:
    from searchrl.models.language_model import LanguageModel
    from searchrl.retrieval.dense import TextEncoder
    from searchrl.reward.reward_model import RewardModel


class Services:
    """One search, one generation and one embedding model, loaded when first used, sharing one thread.

    search_model, generation_model: names as ``Search`` takes them; None for the device's language model. Where both
    name one model in one numeric format, it is loaded once. embedding_model: a sentence-transformers name or folder;
    None for all-MiniLM-L6-v2. engine: where they run; generation_engine and embedding_engine, where these run elsewhere
    (servers of their own, say). device, dtype, cache: see ``ModelLoader``. search_options: further keyword arguments of
    ``Search`` (templates, candidates, ...).

    Raises ConfigError on an impossible setting, ModelError where a model cannot be had, at its first use. Close it when
    done, or use ``async with``.
    """

    def __init__(
        self,
        search_model: str | None = None,
        generation_model: str | None = None,
        embedding_model: str | None = None,
        *,
        scorer: ScorerName | ScorerSettings = "auto",
        engine: EngineName | EngineConfig = "transformers",
        generation_engine: EngineName | EngineConfig | None = None,
        embedding_engine: EngineName | EngineConfig | None = None,
        device: str = "auto",
        dtype: DtypeName = "auto",
        cache: bool = True,
        **search_options: Any,
    ) -> None:
        self._models = search_model, generation_model, embedding_model
        self._settings = ScorerSettings(scorer) if isinstance(scorer, str) else scorer
        make = partial(ModelLoader, device=device, dtype=dtype, cache=cache)
        self._loader = make(engine)
        self._writers = self._loader if generation_engine is None else make(generation_engine)
        self._encoders = self._loader if embedding_engine is None else make(embedding_engine)
        self._options = search_options
        self._worker = Worker()

    @lazy
    def reward(self) -> RewardModel:
        """The reward model that scores keys."""
        return make_scorer(self._models[0], self._settings, self._loader)

    @lazy
    def lm(self) -> LanguageModel:
        """The language model that writes, behind the cache of its answers."""
        return self._writers.language_model(self._models[1], "chat")

    @lazy
    def encoder(self) -> TextEncoder:
        """The sentence encoder."""
        return self._encoders.encoder(self._models[2])

    @lazy
    def _search(self) -> Search:
        return Search(
            scorer=self.reward,
            encoder=self.encoder,
            cache=self._loader.cache is not None,
            worker=self._worker,
            **self._options,
        )

    async def search(
        self, queries: Sequence[str], keys: Sequence[str], k: int | None = 10, **options: Any
    ) -> list[SearchResult]:
        """The k most relevant keys of each query; options and errors as ``Search.__call__`` has them."""
        search = await self._worker.run(lambda: self._search)
        return await search(queries, keys, k, **options)

    async def relevance(self, queries: Sequence[str], keys: Sequence[str], **options: Any) -> FloatArray:
        """The relevance of every key to every query, (n_queries, n_keys); options as in ``Search.get_relevance``."""
        search = await self._worker.run(lambda: self._search)
        return await search.get_relevance(queries, keys, **options)

    async def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int = 128, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """What the language model writes after each prompt; see ``LanguageModel.generate``."""
        texts = text_list("prompts", prompts)
        return await self._worker.run(
            lambda: self.lm.generate(texts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        )

    async def embed(self, texts: Sequence[str], kind: Literal["query", "document"] = "document") -> FloatArray:
        """Unit vectors of the texts, (n, dim)."""
        texts = text_list("texts", texts)
        return await self._worker.run(
            lambda: self.encoder.encode(texts, kind=kind, show_progress=False, description="embed")
        )

    def close(self) -> None:
        """Finish the work at hand and close files; the object is of no use afterwards."""
        self._worker.close()
        for loader in (self._loader, self._writers, self._encoders):
            loader.close()

    async def __aenter__(self) -> Services:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
