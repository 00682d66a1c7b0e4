"""A causal language model run by vLLM in this process: for GPUs, one or several. An extra, imported when first used.

Prompts are tokenised here, as for ``TransformersLM``, so that both read the same tokens. Written against vLLM 0.33.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from searchrl.checks import at_least
from searchrl.device import rng
from searchrl.errors import ConfigError, EngineError, ModelError, reason
from searchrl.extras import install_command
from searchrl.models.folders import (
    DEFAULT_LANGUAGE_MODELS,
    causal_lm_facts,
    folder_fingerprint,
    language_model_folder,
)
from searchrl.models.language_model import FloatArray, check_generation, finished
from searchrl.models.tokens import first_tokens, prompt_tokens, text_tokens
from searchrl.threads import lazy


class VllmLM:
    """Implements ``LanguageModel`` with vLLM (see there for the three calls). The engine starts at the first of them.

    name: preset, local folder or hub name. tensor_parallel_size, pipeline_parallel_size: see ``EngineConfig``. dtype:
    as vLLM names it. max_context_tokens, max_continuation_tokens, stop_at_newline: as in ``TransformersLM``. Raises
    ConfigError on an impossible setting, ModelError where the model or vLLM itself is not available; at the first call,
    EngineError where vLLM does not start.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        dtype: str = "auto",
        max_context_tokens: int = 256,
        max_continuation_tokens: int = 256,
        stop_at_newline: bool = False,
    ) -> None:
        self._parallel = {
            "tensor_parallel_size": tensor_parallel_size,
            "pipeline_parallel_size": pipeline_parallel_size,
        }
        for setting, value in self._parallel.items():
            at_least(setting, value, 1)
        if dtype == "int8":
            raise ConfigError("vLLM has no numeric format int8 as is meant here: use auto, bfloat16 or float16")
        if find_spec("vllm") is None:
            raise ModelError(
                "the vllm engine needs the package vllm and a GPU it supports: "
                f"{install_command('vllm')}; or "
                "talk to a vLLM server elsewhere with the engine http, or use the engine transformers"
            )
        self.name = name or DEFAULT_LANGUAGE_MODELS["cuda"]
        self._folder = language_model_folder(self.name)
        self.parameters = causal_lm_facts(self.name, self._folder).parameters
        self._dtype = dtype
        self._max_context = max_context_tokens
        self._max_continuation = max_continuation_tokens
        self._stop_at_newline = stop_at_newline

    @property
    def description(self) -> str:
        """For people: what answers, and how."""
        sizes = " x ".join(map(str, self._parallel.values()))
        return f"{self.name} in vLLM ({self._dtype}, tensor x pipeline parallel: {sizes})"

    @lazy
    def fingerprint(self) -> str:
        """Every file of the model, the numeric format, the cuts and ``stop_at_newline``."""
        return folder_fingerprint(
            self._folder, "vllm", self._dtype, self._max_context, self._max_continuation, self._stop_at_newline
        )

    @lazy
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._folder)

    @lazy
    def _engine(self) -> Any:
        vllm = _vllm()
        try:
            return vllm.LLM(model=str(self._folder), dtype=self._dtype, trust_remote_code=False, **self._parallel)
        except Exception as error:  # whatever CUDA, NCCL, Ray or the model's own code may say
            raise EngineError(
                f"vLLM does not start with {self.name} ({reason(error)}); ask for no more GPUs than there are "
                "(tensor_parallel_size x pipeline_parallel_size), or use the engine transformers"
            ) from error

    def close(self) -> None:
        """Stop the engine; a later call would start it again."""
        self.__dict__.pop("_engine", None)

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """See ``LanguageModel.generate``; white space around the answer is removed."""
        check_generation(max_new_tokens, temperature)
        streams = [int(rng(seed, "generate", prompt).integers(2**31)) for prompt in prompts]
        outputs = self._run(
            prompt_tokens(self._tokenizer, prompts),
            [{"max_tokens": max_new_tokens, "temperature": temperature, "seed": stream} for stream in streams],
        )
        return [finished(output.outputs[0].text, self._stop_at_newline) for output in outputs]

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.choice_logprobs``. Raises ModelError where two choices begin with the same token."""
        wanted = first_tokens(self._tokenizer, choices)
        settings = {"max_tokens": 1, "temperature": 0.0, "logprob_token_ids": wanted}
        outputs = self._run(prompt_tokens(self._tokenizer, prompts), [settings] * len(prompts))
        rows = [[output.outputs[0].logprobs[0][token].logprob for token in wanted] for output in outputs]
        logits = np.array(rows, dtype=np.float64).reshape(len(prompts), len(choices))
        return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), dtype=np.float32)

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.continuation_logprobs``; an empty continuation scores 0, the logarithm of certainty."""
        starts = text_tokens(self._tokenizer, contexts, self._max_context, special=True)
        endings = text_tokens(self._tokenizer, continuations, self._max_continuation, special=False)
        pairs = [(starts[c], endings[e]) for c, e in zip(contexts, continuations, strict=True)]
        asked = [i for i, (_, ending) in enumerate(pairs) if ending]
        settings = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
        outputs = self._run([[*pairs[i][0], *pairs[i][1]] for i in asked], [settings] * len(asked))
        means = np.zeros(len(pairs), dtype=np.float32)
        for i, output in zip(asked, outputs, strict=True):
            start, ending = pairs[i]
            scored = zip(output.prompt_logprobs[len(start) :], ending, strict=True)
            means[i] = np.mean([row[token].logprob for row, token in scored])
        return means

    def _run(self, rows: Sequence[Sequence[int]], settings: Sequence[dict[str, Any]]) -> list[Any]:
        """vLLM's outputs for rows of token ids, in their order."""
        if not rows:
            return []
        vllm = _vllm()
        prompts = [{"prompt_token_ids": list(row)} for row in rows]
        params = [vllm.SamplingParams(**chosen) for chosen in settings]
        engine = self._engine
        try:
            outputs: list[Any] = engine.generate(prompts, params, use_tqdm=False)
        except Exception as error:  # a prompt too long, a worker that died: vLLM has no common error
            raise EngineError(f"vLLM with {self.name} fails ({reason(error)})") from error
        return outputs


def _vllm() -> Any:
    return import_module("vllm")  # by name: it has no place in the types of an installation without it
