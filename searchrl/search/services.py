"""``Services``: a reward model, a language model that writes and an encoder, together behind one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from searchrl.checks import at_least, typed, whole
from searchrl.config import DtypeName, EngineConfig, EngineName, ScorerName
from searchrl.errors import ConfigError, DataError
from searchrl.models.language_model import FloatArray
from searchrl.models.loader import ModelLoader
from searchrl.reward.registry import ScorerSettings, make_reward
from searchrl.search.api import Search, check_model, check_options
from searchrl.search.results import SearchResult, text_list
from searchrl.search.worker import Embed, Generate, Score, Worker
from searchrl.threads import lazy

if TYPE_CHECKING:
    from searchrl.models.language_model import LanguageModel
    from searchrl.retrieval.dense import TextEncoder
    from searchrl.reward.reward_model import RewardModel


class Services:
    """One search, one generation and one embedding model, loaded when first used, sharing one thread.

    search_model, generation_model: names as ``Search`` takes them; None for the device's language model. Where both
    name one model in one numeric format, it is loaded once. embedding_model: a sentence-transformers name or folder;
    None for all-MiniLM-L6-v2. ``scorer``, ``generation_model`` and ``embedding_model`` may be models ready made.
    engine: where they run, or what makes them; generation_engine and embedding_engine, where these run elsewhere
    (servers of their own, say). device, dtype, cache: see ``ModelLoader``. search_options: further keyword arguments of
    ``Search`` (templates, candidates, ...).

    What several callers ask of one model at the same time is worked on together. Raises ConfigError on an impossible
    setting, ModelError where a model cannot be had, at its first use. Close it when done, or use ``async with``.
    """

    def __init__(
        self,
        search_model: str | None = None,
        generation_model: str | LanguageModel | None = None,
        embedding_model: str | TextEncoder | None = None,
        *,
        scorer: ScorerName | ScorerSettings | RewardModel = "auto",
        engine: EngineName | EngineConfig | ModelLoader = "transformers",
        generation_engine: EngineName | EngineConfig | None = None,
        embedding_engine: EngineName | EngineConfig | None = None,
        device: str = "auto",
        dtype: DtypeName = "auto",
        cache: bool = True,
        **search_options: Any,
    ) -> None:
        typed(str | None, search_model, "`search_model`")
        check_model("generation_model", generation_model, "generate")
        check_model("embedding_model", embedding_model, "encode")
        check_model("scorer", scorer, "score")
        engines = {"engine": engine, "generation_engine": generation_engine, "embedding_engine": embedding_engine}
        for name, given in engines.items():
            if not isinstance(given, str | EngineConfig | ModelLoader | None):
                raise ConfigError(f"`{name}` {given!r:.60}: give a name or an EngineConfig")
        check_options(device=device, dtype=dtype, cache=cache, **search_options)

        def loader(engine: EngineName | EngineConfig | ModelLoader) -> ModelLoader:
            if isinstance(engine, ModelLoader):
                return engine
            return ModelLoader(engine, device=device, dtype=dtype, cache=cache)

        self._search_model, self._writing, self._embedding = search_model, generation_model, embedding_model
        self._scorer = ScorerSettings(scorer) if isinstance(scorer, str) else scorer
        self._loader = loader(engine)
        self._writers = self._loader if generation_engine is None else loader(generation_engine)
        self._encoders = self._loader if embedding_engine is None else loader(embedding_engine)
        self._options = search_options
        self.worker = Worker()
        """The thread that all models work in; before the first use, another may be put in its place."""

    @lazy
    def reward(self) -> RewardModel:
        """The reward model that scores keys."""
        if isinstance(self._scorer, ScorerSettings):
            return make_reward(self._search_model, self._scorer, self._loader)
        return self._scorer

    @lazy
    def lm(self) -> LanguageModel:
        """The language model that writes, behind the cache of its answers."""
        if self._writing is None or isinstance(self._writing, str):
            return self._writers.language_model(self._writing, "chat")
        return self._writing

    @lazy
    def encoder(self) -> TextEncoder:
        """The sentence encoder."""
        if self._embedding is None or isinstance(self._embedding, str):
            return self._encoders.encoder(self._embedding)
        return self._embedding

    @lazy
    def _search(self) -> Search:
        return Search(
            scorer=self.reward,
            encoder=self.encoder,
            cache=self._loader.cache is not None,
            worker=self.worker,
            **self._options,
        )

    async def search(
        self, queries: Sequence[str], keys: Sequence[str], k: int | None = 10, **options: Any
    ) -> list[SearchResult]:
        """The k most relevant keys of each query; options and errors as ``Search.__call__`` has them."""
        search: Search = await self.loaded("_search")
        return await search(queries, keys, k, **options)

    async def relevance(self, queries: Sequence[str], keys: Sequence[str], **options: Any) -> FloatArray:
        """The relevance of every key to every query, (n_queries, n_keys); options as in ``Search.get_relevance``."""
        search: Search = await self.loaded("_search")
        return await search.get_relevance(queries, keys, **options)

    async def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The relevance of (query, key) pairs, one after another as they are."""
        given: Any = pairs
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise DataError(f"pairs must be a list of (query, key), not {given!r:.60}")
        for i, pair in enumerate(given):
            if len(text_list(f"pairs[{i}]", pair)) != 2:
                raise DataError(f"pairs[{i}] must be a query and a key, not {pair!r:.60}")
        return await self.worker.submit(Score(await self.loaded("reward")), pairs)

    async def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int = 128, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """What the language model writes after each prompt; see ``LanguageModel.generate``."""
        texts = text_list("prompts", prompts)
        max_new_tokens, seed = whole("max_new_tokens", max_new_tokens, 1), whole("seed", seed, 0)
        at_least("temperature", typed(float, temperature, "`temperature`"), 0.0)
        work = Generate(await self.loaded("lm"), max_new_tokens, temperature, seed)
        return await self.worker.submit(work, texts)

    async def embed(self, texts: Sequence[str], kind: Literal["query", "document"] = "document") -> FloatArray:
        """Unit vectors of the texts, (n, dim)."""
        texts = text_list("texts", texts)
        typed(Literal["query", "document"], kind, "`kind`")
        encoder: TextEncoder = await self.loaded("encoder")
        vectors = await self.worker.submit(Embed(encoder, kind), texts)
        return np.array(vectors, dtype=np.float32).reshape(len(texts), encoder.dim)

    async def loaded(self, name: Literal["reward", "lm", "encoder", "_search"]) -> Any:
        """A property of this object; what is not loaded yet is loaded in the models' thread."""
        if name not in self.__dict__:
            await self.worker.run(lambda: getattr(self, name))
        return getattr(self, name)

    def close(self) -> None:
        """Finish the work at hand and close files; the object is of no use afterwards."""
        self.worker.close()
        for loader in (self._loader, self._writers, self._encoders):
            loader.close()

    async def __aenter__(self) -> Services:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
