"""A causal language model run by transformers: the backend that needs nothing but the package itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from searchrl.checks import at_least
from searchrl.device import DeviceChoice, choose_device, generator, with_dtype
from searchrl.errors import ConfigError, ModelError
from searchrl.models import llama
from searchrl.models.folders import (
    causal_lm_facts,
    default_language_model,
    folder_fingerprint,
    format_name,
    language_model_folder,
    loading_model,
)
from searchrl.models.language_model import FloatArray, check_generation, finished
from searchrl.models.tokens import (
    PackedForward,
    Tokens,
    default_budget,
    first_tokens,
    pack,
    pad,
    prompt_tokens,
    share_prefixes,
    text_start,
    text_tokens,
    token_batches,
)
from searchrl.threads import lazy, one_at_a_time, pause

GENERATION_BUDGET = 4
"""Times the token budget: after the prompt, a step computes a single token a row, and many rows pay for one step."""

SAMPLE = "The capital of France is the city of Paris on the Seine"
"""Tells whether a model takes packed rows."""

SHORTEST_CUT = 64
"""Tokens below which a continuation may not be cut."""


class TransformersLM:
    """Implements ``LanguageModel`` (see there for the three calls). The weights are loaded at the first of them.

    name: preset, local folder or hub name; by default the device's preset. choice: device and format; by default the
    best there is. token_budget: padded tokens in one forward pass (see ``tokens.default_budget``).
    max_context_tokens, max_continuation_tokens: texts longer than this lose their end (``continuation_logprobs``); an
    instruction that follows a document belongs at the head of the continuation, or the document be cut beforehand.
    stop_at_newline: ``generate`` returns the first line that is not empty.

    Raises ModelError where the model is not available or is not a causal language model, ConfigError on an impossible
    limit; at the first call, ModelError where its weights are damaged or do not fit.
    """

    def __init__(
        self,
        name: str | None = None,
        choice: DeviceChoice | None = None,
        *,
        token_budget: int | None = None,
        max_context_tokens: int = 256,
        max_continuation_tokens: int = 256,
        stop_at_newline: bool = False,
    ) -> None:
        at_least("max_context_tokens", max_context_tokens, 1)
        at_least("max_continuation_tokens", max_continuation_tokens, SHORTEST_CUT)
        self.choice = choice or with_dtype(choose_device(), "auto")
        self.name = name or default_language_model(self.choice.device)
        self._folder = language_model_folder(self.name)
        facts = causal_lm_facts(self.name, self._folder)
        self._budget = default_budget(self.choice.device) if token_budget is None else token_budget
        # Memory on mps grows with every new input shape, and GPU kernels like even widths.
        self._multiple = {"cpu": 1, "mps": 64}.get(self.choice.device, 8)
        self._max_context = max_context_tokens
        self._max_continuation = max_continuation_tokens
        self._stop_at_newline = stop_at_newline
        self.parameters = facts.parameters
        """Number of weights; see ``folders.judging_method``."""
        self._positions = facts.positions
        if max_context_tokens + max_continuation_tokens > self._positions:
            raise ConfigError(
                f"{self.name} reads {self._positions} tokens at once, fewer than max_context_tokens + "
                f"max_continuation_tokens ({max_context_tokens} + {max_continuation_tokens})"
            )

    @property
    def description(self) -> str:
        """For people: name and numeric format, and why that one."""
        return f"{self.name} in {self.choice.dtype} ({self.choice.reason})"

    @lazy
    def _tokenizer(self) -> Any:
        with self._loading():
            return llama.tokenizer(self._folder)

    @lazy
    def _scorer(self) -> Any:
        """What scores: on a CPU the layers alone where they can be read, since importing all of a model takes long."""
        shape = llama.described(self._folder) if self.choice.device == "cpu" else None
        if shape is None:
            return self._model
        with self._loading():
            return self._in_format(llama.load(self._folder, shape, self.choice.torch_dtype))

    @lazy
    def _model(self) -> Any:
        """All of transformers' model, on the device and in the format asked for."""
        import transformers

        library: Any = transformers  # whose types lag behind its arguments
        with self._loading():
            model, loaded = library.AutoModelForCausalLM.from_pretrained(
                self._folder,
                dtype=self.choice.torch_dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
            if loaded["missing_keys"]:
                missing = ", ".join(sorted(loaded["missing_keys"])[:3])
                raise ModelError(f"{self.name}: its weights lack {missing}; these would be random")
            model.to(self.choice.device)
        # Sampling settings that the model's author recommends would bend greedy decoding (repetition penalties) or
        # contradict it (temperature); only the tokens that end a text are kept.
        model.generation_config = library.GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
        return self._in_format(model.eval())

    @contextmanager
    def _loading(self) -> Iterator[None]:
        _ = self.fingerprint  # of the files as they are now, should they change while the model is in use
        with loading_model(f"the language model {self.name!r}", self._folder):
            yield

    def _in_format(self, model: Any) -> Any:
        if self.choice.dtype == "int8":
            from searchrl.int8 import to_int8

            # The vocabulary projection is a small part of the work, and what it rounds would fall on the scores.
            to_int8(
                model.base_model, lambda text: model.base_model(self._tokenizer(text, return_tensors="pt").input_ids)
            )
        return model

    @lazy
    def _fill(self) -> int:
        """The token that padding carries."""
        pad_token = self._tokenizer.pad_token_id
        return text_start(self._tokenizer) if pad_token is None else int(pad_token)

    @lazy
    def _packed(self) -> PackedForward:
        sample = text_tokens(self._tokenizer, [SAMPLE], 32, special=False)[SAMPLE]
        return PackedForward(self._scorer, self.choice, self._fill, self._multiple, sample)

    def close(self) -> None:
        """Let go of the weights; a later call would load them again."""
        for part in ("_tokenizer", "_scorer", "_model", "_packed"):
            self.__dict__.pop(part, None)

    @lazy
    def fingerprint(self) -> str:
        """16 hex digits over every file of the model, the numeric format, the cuts and ``stop_at_newline``."""
        cuts = self._max_context, self._max_continuation
        return folder_fingerprint(self._folder, format_name(self.choice.dtype), *cuts, self._stop_at_newline)

    @one_at_a_time
    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """See ``LanguageModel.generate``; white space around the answer is removed.

        Raises ModelError where a prompt exceeds what the model reads, ConfigError on an impossible setting.
        """
        import transformers

        check_generation(max_new_tokens, temperature)
        rows = self._prompt_tokens(prompts, max_new_tokens)
        answers = [""] * len(prompts)
        library: Any = transformers  # whose types lag behind its arguments
        settings = library.GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self._model.generation_config.eos_token_id,
            pad_token_id=self._fill,
        )
        device = self.choice.device
        with torch.inference_mode():
            lengths = [len(row) + max_new_tokens for row in rows]
            for batch in token_batches(lengths, GENERATION_BUDGET * self._budget, self._multiple):
                ids, mask = pad([rows[i] for i in batch], self._fill, "left", self._multiple)
                streams = [generator(seed, "generate", prompts[i], device=device) for i in batch]
                out = self._model.generate(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    generation_config=settings,
                    logits_processor=library.LogitsProcessorList(
                        [_GumbelSampling(temperature, streams)] if temperature else []
                    ),
                    stopping_criteria=library.StoppingCriteriaList(
                        [_Pause(), *([_EndOfLine(self._tokenizer, ids.shape[1])] if self._stop_at_newline else [])]
                    ),
                )
                texts = self._tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
                for i, text in zip(batch, texts, strict=True):
                    answers[i] = finished(text, self._stop_at_newline)
        return answers

    @one_at_a_time
    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.choice_logprobs``. Raises ModelError where two choices begin with the same token."""
        wanted = torch.tensor(first_tokens(self._tokenizer, choices), device=self.choice.device)
        rows = self._prompt_tokens(prompts, 1)
        result = np.zeros((len(prompts), len(choices)), dtype=np.float32)
        for batch, logits in self._choice_logits(rows, wanted):
            result[batch] = logits.log_softmax(-1).cpu().numpy()
        return result

    def _choice_logits(self, rows: Sequence[Tokens], wanted: Tensor) -> Iterator[tuple[list[int], Tensor]]:
        """Batches of prompts and the logits of ``wanted`` after each; what they begin with alike is computed once."""
        if rows and self._packed.works:
            groups = share_prefixes(rows, self._fill)
            for batch in token_batches([len(group.row) for group in groups], self._budget, self._multiple):
                places = [i for g in batch for i in groups[g].places]
                yield places, self._packed.last_logits([groups[g].row for g in batch], wanted)
            return
        for batch in token_batches([len(row) for row in rows], self._budget, self._multiple):
            ids, mask = pad([rows[i] for i in batch], self._fill, "left", self._multiple)
            device = self.choice.device
            with torch.inference_mode():
                output = self._model(
                    input_ids=ids.to(device),
                    attention_mask=mask.to(device),
                    position_ids=(mask.cumsum(1) - 1).clamp(min=0).to(device),
                    logits_to_keep=1,
                    use_cache=False,
                )
            yield batch, output.logits[:, -1, wanted].float()

    @one_at_a_time
    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        """See ``LanguageModel.continuation_logprobs``; an empty continuation scores 0, the logarithm of certainty.

        Each distinct context is computed once for all its continuations (``tokens.py``).
        """
        starts = text_tokens(self._tokenizer, contexts, self._max_context, special=True)
        endings = text_tokens(self._tokenizer, continuations, self._max_continuation, special=False)
        groups: dict[Tokens, dict[Tokens, list[int]]] = {}
        for i, (context, continuation) in enumerate(zip(contexts, continuations, strict=True)):
            if ending := endings[continuation]:
                groups.setdefault(starts[context], {}).setdefault(ending, []).append(i)
        rows = pack({context: list(endings) for context, endings in groups.items()})
        if rows and not self._packed.works:
            raise ModelError(
                f"{self.name} ({type(self._scorer).__name__}) cannot score likelihoods here: its attention or its "
                "logits are of a kind that shared contexts do not reproduce; judge by yes_no or graded, or use "
                "another model"
            )
        result = np.zeros(len(contexts), dtype=np.float32)
        for batch in token_batches([len(row) for row in rows], self._budget, self._multiple):
            chosen = [rows[i] for i in batch]
            means = iter(self._packed.mean_logprobs(chosen))
            for packed in chosen:
                for ending in packed.continuations:
                    places = groups[packed.context][ending]
                    result[places] = next(means)
        return result

    def _prompt_tokens(self, prompts: Sequence[str], new_tokens: int) -> list[Tokens]:
        rows = [tuple(row) for row in prompt_tokens(self._tokenizer, prompts)]
        for prompt, row in zip(prompts, rows, strict=True):
            if len(row) + new_tokens > self._positions:
                raise ModelError(
                    f"a prompt of {len(row)} tokens and {new_tokens} new ones exceed the {self._positions} that "
                    f"{self.name} reads: shorten what begins {prompt[:60]!r}"
                )
        return rows


class _GumbelSampling:
    """A logits processor that turns greedy decoding into sampling, each row from its own generator.

    The largest of logits / temperature plus Gumbel noise is a draw from the softmax (Gumbel-max). transformers' own
    sampling draws all rows from one stream, so that a prompt's answer would depend on what else is in the batch.
    """

    def __init__(self, temperature: float, generators: Sequence[torch.Generator]) -> None:
        self._temperature = temperature
        self._generators = generators

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores whose argmax is the draw, (rows, vocabulary) float32."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, stream in zip(noise, self._generators, strict=True):
            row.exponential_(generator=stream)
        return scores.float() / self._temperature - noise.log()


class _EndOfLine:
    """A stopping criterion: a row ends once its new text has a line break after something that is not white space."""

    def __init__(self, tokenizer: Any, prompt_width: int) -> None:
        self._tokenizer = tokenizer
        self._prompt_width = prompt_width

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Which rows are done, (rows,) bool."""
        texts = self._tokenizer.batch_decode(input_ids[:, self._prompt_width :], skip_special_tokens=True)
        return torch.tensor(["\n" in text.lstrip() for text in texts], device=input_ids.device)


class _Pause:
    """A stopping criterion that stops nothing: between two tokens, who must not wait for the whole text gets a turn."""

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """Which rows are done, (rows,) bool: none."""
        pause()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
