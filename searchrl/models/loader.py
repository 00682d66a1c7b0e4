"""Models by their names, all run by one engine: in this process by transformers or vLLM, or behind a server.

The one place where engines are made.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from searchrl.config import DtypeName, EngineConfig, EngineName, LanguageModelConfig, RayConfig
from searchrl.device import DeviceChoice, choose_device, with_dtype
from searchrl.errors import ConfigError
from searchrl.files import cache_dir
from searchrl.models.folders import (
    DEFAULT_ENCODER,
    OFFLINE_LANGUAGE_MODEL,
    REWARD_ADAPTER,
    SMALL_MODEL,
    JudgingMethod,
    causal_lm_facts,
    default_language_model,
    judging_method,
    keeps_int8,
    language_model_folder,
)
from searchrl.threads import lazy, one_at_a_time

if TYPE_CHECKING:
    from searchrl.models.encoder import Encoder, HttpEncoder
    from searchrl.models.language_model import Engine
    from searchrl.models.lm_cache import CachedLanguageModel

Use = Literal["likelihoods", "chat"]
"""What a language model is asked: for the likelihood of a text, or, in its chat template, for answers."""

CONTEXT_TOKENS = 256
"""What a language model reads of a context by default; a longer one loses its end."""

Model = TypeVar("Model")


class ModelLoader:
    """Makes models, and closes them.

    engine: a name, or all its settings. device, dtype: of models in this process. cache: keep language model answers,
    servers' scores and indexes in the user's cache folder. show_progress: bars over what language models compute.
    cluster: whether Ray's workers run language models.
    Raises ConfigError on an unknown engine.
    """

    def __init__(
        self,
        engine: EngineName | EngineConfig = "transformers",
        *,
        device: str = "auto",
        dtype: DtypeName = "auto",
        cache: bool = True,
        show_progress: bool = False,
        cluster: RayConfig | None = None,
    ) -> None:
        self.config = engine if isinstance(engine, EngineConfig) else EngineConfig(engine=engine)
        self.engine = "transformers" if self.config.engine == "auto" else self.config.engine
        """Who runs the models."""
        self._device, self._dtype, self._cache, self._show_progress = device, dtype, cache, show_progress
        self._cluster = cluster or RayConfig()
        self._engines: dict[tuple[object, ...], Engine] = {}
        self._cached: dict[Engine, CachedLanguageModel] = {}
        self._checked: set[tuple[Engine, Use]] = set()
        self._opened = ExitStack()

    @lazy
    def device(self) -> DeviceChoice:
        """Where models of this process run, and the device's numeric format."""
        return choose_device(self._device)

    @property
    def cache(self) -> Path | None:
        """Where indexes are kept; None without a cache."""
        return cache_dir() if self._cache else None

    @property
    def answers(self) -> Path | None:
        """The file where answers and servers' scores are kept; None without a cache."""
        from searchrl.models.lm_cache import default_cache_path

        return default_cache_path() if self._cache else None

    def format(self, keeps_int8: bool = False, has_int8: bool = True) -> DeviceChoice:
        """The device with the numeric format asked for; see ``device.with_dtype``."""
        return with_dtype(self.device, self._dtype, keeps_int8, has_int8)

    def opened(self, model: Model, close: Callable[[], object]) -> Model:
        """The model, which ``close`` will close."""
        self._opened.callback(close)
        return model

    @one_at_a_time
    def language_model(
        self, name: str | None, use: Use, *, context_tokens: int = CONTEXT_TOKENS, stop_at_newline: bool = False
    ) -> CachedLanguageModel:
        """A language model (see ``backend``) behind the cache of its answers.

        Raises ModelError where it is not available, EngineError where it and the golden model
        (``EngineConfig.golden``) do not answer alike.
        """
        engine = self.backend(name, use, context_tokens=context_tokens, stop_at_newline=stop_at_newline)
        if self.config.golden and (engine, use) not in self._checked:
            self._check_golden(self.config.golden, engine, use)
            self._checked.add((engine, use))
        if engine not in self._cached:
            cached = self._behind_cache(engine)
            self._cached[engine] = self.opened(cached, cached.close)
        return self._cached[engine]

    @one_at_a_time
    def backend(
        self, name: str | None, use: Use, *, context_tokens: int = CONTEXT_TOKENS, stop_at_newline: bool = False
    ) -> Engine:
        """What runs a language model: the one of this name (None: the device's, or the one that is served).

        context_tokens, stop_at_newline: see ``TransformersLM``. Asked for again in the same format and with the same
        cut, it is the same object. Raises ModelError where it is not available.
        """
        choice = None
        if self.engine == "transformers":
            name = default_language_model(self.device.device) if name is None else name
            choice = self.format(use == "likelihoods" and keeps_int8(name))  # int8 is too rough for what a model writes
        key = (name, choice and choice.dtype, context_tokens, stop_at_newline)
        if key not in self._engines:
            engine = self._make(name, choice, context_tokens, stop_at_newline)
            if self._cluster.ray:
                from searchrl.models.ray_models import RayLM, load_engine

                cuts = {"context_tokens": context_tokens, "stop_at_newline": stop_at_newline}
                made = partial(load_engine, self.config, self._device, self._dtype, name, use, **cuts)
                engine = RayLM(engine, made, self._cluster)
            self._engines[key] = self.opened(engine, engine.close)
        return self._engines[key]

    def reward_model_name(self, name: str | None, method: str) -> str | None:
        """The language model that judges where none is named and no method asked for: the embedded one, as fitted."""
        ours = self.engine == "transformers" and default_language_model(self.device.device) == OFFLINE_LANGUAGE_MODEL
        return REWARD_ADAPTER if name is None and method == "auto" and ours else name

    def judging_method(self, name: str | None) -> JudgingMethod:
        """How a language model of its size judges best. Raises ConfigError where its server does not tell the size."""
        lm = self.backend(name, "chat")
        if lm.parameters is None:
            raise ConfigError(
                f"{lm.name}: its server does not say how large it is; judge by likelihood (best below about 1B "
                "parameters), graded or yes_no"
            )
        return judging_method(lm.parameters)

    def is_small(self, name: str | None) -> bool:
        """Whether a language model is too small to follow instructions (``SMALL_MODEL``); None: the device's.

        What a server runs counts as large.
        """
        if self.engine == "http":
            return False
        name = name or default_language_model("cuda" if self.engine == "vllm" else self.device.device)
        if name.lower() in (OFFLINE_LANGUAGE_MODEL, REWARD_ADAPTER):
            return True  # known before it is unpacked
        return causal_lm_facts(name, language_model_folder(name)).parameters < SMALL_MODEL

    def _make(
        self, name: str | None, choice: DeviceChoice | None, context_tokens: int, stop_at_newline: bool
    ) -> Engine:
        cuts: dict[str, Any] = {"max_context_tokens": context_tokens, "stop_at_newline": stop_at_newline}
        if self.engine == "http":
            from searchrl.models.http_lm import HttpLM

            return HttpLM(self.url, name or self.config.engine_model, **cuts, **self.client)
        if self.engine == "vllm":
            from searchrl.models.vllm_lm import VllmLM

            tensors, pipelines = self.config.tensor_parallel_size, self.config.pipeline_parallel_size
            return VllmLM(
                name, tensor_parallel_size=tensors, pipeline_parallel_size=pipelines, dtype=self._dtype, **cuts
            )
        from searchrl.models.transformers_lm import SHORTEST_CUT, TransformersLM

        # A long context leaves what follows it the least there is.
        rest = CONTEXT_TOKENS if context_tokens == CONTEXT_TOKENS else SHORTEST_CUT
        return TransformersLM(name, choice, max_continuation_tokens=rest, **cuts)

    def _behind_cache(self, engine: Engine) -> CachedLanguageModel:
        from searchrl.models.lm_cache import CHUNK, CachedLanguageModel

        # Several rounds of requests in a chunk, or a server would wait for the slowest of each.
        chunk = max(CHUNK, 8 * self.config.concurrency)
        return CachedLanguageModel(engine, self.answers, chunk=chunk, show_progress=self._show_progress)

    def _check_golden(self, name: str, engine: Engine, use: Use) -> None:
        """Hold an engine to what transformers answers, computed once and then remembered, on what it will be asked."""
        from searchrl.models.language_model import check_language_models
        from searchrl.models.transformers_lm import TransformersLM

        with closing(self._behind_cache(TransformersLM(name, self.device))) as reference:
            check_language_models(reference, engine, likelihoods=use == "likelihoods", chat=use == "chat")

    @one_at_a_time
    def encoder(self, name: str | None) -> Encoder | HttpEncoder:
        """A sentence encoder (None: all-MiniLM-L6-v2, or the one that is served); engine ``vllm`` leaves it here."""
        if self.engine == "http":
            from searchrl.models.encoder import HttpEncoder

            encoder = HttpEncoder(self.url, name or self.config.engine_model, **self.client)
            return self.opened(encoder, encoder.close)
        from searchrl.models.encoder import Encoder

        return Encoder(name or DEFAULT_ENCODER, self.device.device)

    @property
    def url(self) -> str:
        """The server's address, with engine ``http``."""
        return self.config.base_url or ""

    @property
    def client(self) -> dict[str, Any]:
        """How the server is asked: settings of ``HttpClient``. Raises ConfigError where the key is not there."""
        from searchrl.models.http_client import key_from

        config = self.config
        key = key_from(config.api_key_env)
        return {"api_key": key, "concurrency": config.concurrency, "timeout": config.request_timeout}

    def close(self) -> None:
        """Close caches and connections; the models are of no use afterwards."""
        self._opened.close()
        for made in (self._engines, self._cached, self._checked):
            made.clear()


def open_models(config: LanguageModelConfig, show_progress: bool = False) -> ModelLoader:
    """What makes the models of a stage; to be closed."""
    device, cache = config.compute.device, config.compute.cache
    return ModelLoader(config.serving, device=device, dtype=config.dtype, cache=cache, show_progress=show_progress)
