"""Reward models with a head: a transformer that reads query and document and gives one number, here or behind a server.

Bradley-Terry reward models (Skywork-Reward, GRM and their kin) read a conversation: the query is the user's turn, the
document the assistant's. Cross-encoders (the MS MARCO rerankers, say) read a plain pair of texts. ``HeadReward`` reads
both, told apart by the tokenizer's chat template; ``CrossEncoderReward`` reads the second kind as sentence-transformers
does, with activation, prompts and several modules; ``HttpReranker`` asks a server (vLLM, llama.cpp, TEI's kin).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchrl.errors import ConfigError, EngineError, ModelError
from searchrl.files import load_json
from searchrl.models.answers import RerankedList
from searchrl.models.folders import folder_fingerprint, format_name, loading_model, model_folder
from searchrl.models.http_client import ServedModel
from searchrl.models.language_model import FloatArray
from searchrl.models.tokens import (
    chat_tokens,
    pad,
    readable_tokens,
    scrub,
    template_tokens,
    text_is_data,
    token_batches,
)
from searchrl.reward.reward_model import check_finite
from searchrl.threads import one_at_a_time

if TYPE_CHECKING:
    import torch


Encoded = dict[str, list[int]]

SMALLEST_MAX_LENGTH = 32
"""Tokens. Less leaves no room for a document beside the query and a chat template."""

OFFLINE_CHOICE = "a causal language model: smollm2-135m (installed with SearchRL)"


class HeadReward:
    """A sequence classification model with one output, as transformers' ``AutoModelForSequenceClassification`` has it.

    model: a folder or a hub name. Weights must be safetensors; code that comes with a model is never run.
    max_length: tokens that query and document together may take, never more than the model has positions. A query is
    cut to half of that, a document to what is left. max_batch_tokens: tokens in one forward pass, padding included.
    template: what the model reads instead of its chat template, a text in which ``{query}`` and ``{key}`` stand for
    theirs; its own control tokens are tokens, those in query and document are text.

    Raises ConfigError on an impossible limit or template; ModelError when the model is not available or cannot be
    loaded, has other than one output, or lacks weights for its head.
    """

    absolute = False
    """The head's output has no common scale: Bradley-Terry training fixes only differences within a query."""

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        max_length: int = 512,
        max_batch_tokens: int = 8192,
        template: str | None = None,
    ) -> None:
        if template is not None and ("{query}" not in template or "{key}" not in template):
            raise ConfigError(f"llm_template {template!r:.80}: write {{query}} and {{key}} where the texts go")
        if max_length < SMALLEST_MAX_LENGTH:
            raise ConfigError(f"max_length {max_length}: must be at least {SMALLEST_MAX_LENGTH} tokens")
        if max_batch_tokens < 1:
            raise ConfigError(f"max_batch_tokens {max_batch_tokens}: must be at least 1")
        self.name = str(model)
        folder = model_folder(self.name, OFFLINE_CHOICE)
        self._tokenizer, self._model = _load_head(self.name, folder, dtype)
        self._model.to(device).eval()
        self._pad = _pad_token(self._model, self._tokenizer)
        self._max_batch_tokens = max_batch_tokens
        self.max_length = min(max_length, readable_tokens(self._model, self._tokenizer) or max_length)
        self._template = template
        settings: list[str | int] = [format_name(dtype), self.max_length, *([template] if template else [])]
        self.fingerprint = f"head-1 {folder_fingerprint(folder, *settings)}"
        """Names weights, tokenizer, numeric format and the cut."""
        if dtype == "int8":
            from searchrl.int8 import to_int8

            to_int8(self._model.base_model, lambda text: self.score([text], [text]))

    @one_at_a_time
    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """The head's raw output for the n pairs (queries[i], documents[i]), shape (n,); any real number.

        A pair's score does not depend on its place or its company, to rounding. Raises ModelError when the model
        gives something that is not a finite number.
        """
        import torch

        inputs = [self._encode(query, document) for query, document in zip(queries, documents, strict=True)]
        scores = np.zeros(len(inputs), dtype=np.float32)
        for batch in token_batches([len(x["input_ids"]) for x in inputs], self._max_batch_tokens):
            with torch.inference_mode():
                logits = self._model(**self._together([inputs[i] for i in batch])).logits
            scores[batch] = logits[:, 0].float().cpu().numpy()
        return check_finite(scores, queries, self.name)

    def _encode(self, query: str, document: str) -> Encoded:
        """Token ids (and token types, where the model has them) of one pair, at most ``max_length`` long."""
        query, document = self._cut(scrub(query), self.max_length // 2), scrub(document)
        if not self._tokenizer.chat_template and not self._template:
            cut = {"truncation": "only_second", "max_length": self.max_length}
            return dict(self._tokenizer(query, document, split_special_tokens=True, **cut))
        # The head reads the conversation's last token, so the cut falls inside the document, not at the end.
        room = self.max_length - len(self._conversation(query, "")["input_ids"])
        while True:
            encoded = self._conversation(query, self._cut(document, room))
            excess = len(encoded["input_ids"]) - self.max_length
            if excess <= 0:
                return encoded
            if room <= 0:
                raise ModelError(f"{self.name}: its chat template takes more than max_length {self.max_length} tokens")
            room -= excess

    def _conversation(self, query: str, document: str) -> Encoded:
        if self._template:
            return self._typed(template_tokens(self._tokenizer, self._template, {"query": query, "key": document}))
        turns = [{"role": "user", "content": query}, {"role": "assistant", "content": document}]
        (ids,) = chat_tokens(self._tokenizer, [turns])
        return self._typed(ids)

    def _typed(self, ids: list[int]) -> Encoded:
        typed = {"token_type_ids": [0] * len(ids)} if "token_type_ids" in self._tokenizer.model_input_names else {}
        return {"input_ids": ids, **typed}

    def _cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that its first ``tokens`` tokens cover."""
        settings = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        encoded = self._tokenizer(text, return_offsets_mapping=True, **settings)
        ends = [end for _, end in encoded["offset_mapping"]]
        if len(ends) <= tokens:
            return text
        return text[: ends[tokens - 1]] if tokens > 0 else ""

    def _together(self, inputs: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """One batch, (rows, longest), padded on the right."""
        ids, mask = pad([x["input_ids"] for x in inputs], self._pad, "right")
        batch = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in inputs[0]:
            batch["token_type_ids"], _ = pad([x["token_type_ids"] for x in inputs], 0, "right")
        return {name: tensor.to(self._model.device) for name, tensor in batch.items()}


def _load_head(name: str, folder: Path, dtype: str) -> tuple[Any, Any]:
    """Tokenizer and model from a folder. Raises ModelError as ``HeadReward`` says."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    with loading_model(f"the reward model {name}", folder, f"or use {OFFLINE_CHOICE}"):
        outputs = AutoConfig.from_pretrained(folder).num_labels
        if outputs != 1:
            raise ModelError(
                f"{name} has {outputs} outputs, a reward model has one: give a reward model or a reranker, or use "
                f"{OFFLINE_CHOICE}"
            )
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=getattr(torch, "float32" if dtype == "int8" else dtype),
            use_safetensors=True,
            output_loading_info=True,
        )
    if loaded["missing_keys"]:
        lost = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise ModelError(f"{name} has no weights for {lost}: it was not trained as a reward model or reranker")
    if not tokenizer.is_fast:
        raise ModelError(f"{name} has no tokenizer.json (a fast tokenizer), without which documents cannot be cut")
    return tokenizer, model


def _pad_token(model: Any, tokenizer: Any) -> int:
    """The id to pad with, made known to the model, which finds a row's last token by it."""
    config = model.config.get_text_config()
    if config.pad_token_id is None:
        # Not the end-of-text token: a text that ends with it would be read one token early.
        known = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
        config.pad_token_id = next((token for token in known if token not in (None, tokenizer.eos_token_id)), 0)
    return int(config.pad_token_id)


class CrossEncoderReward:
    """A model as sentence-transformers' ``CrossEncoder`` loads it, with one output.

    model: a folder or a hub name. Weights must be safetensors; code that comes with a model is never run.
    max_length: tokens that query and document together may take; by default what the model was made for.
    Raises ConfigError on int8, which is not available here; ModelError when the model is not available or cannot be
    loaded, has other than one output, or is an encoder without a head (which would be made up of random numbers).
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "cpu",
        dtype: str = "float32",
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> None:
        if dtype == "int8":
            raise ConfigError("a cross-encoder does not run in int8: use float32, or scorer 'head', which does")
        self.name = str(model)
        folder = model_folder(self.name, OFFLINE_CHOICE)
        self._model = _load_cross_encoder(self.name, folder, device, dtype, max_length)
        self._batch_size = batch_size
        self.fingerprint = f"cross-encoder-1 {folder_fingerprint(folder, dtype, str(max_length))}"
        """Names weights, tokenizer, numeric format and the cut."""

    @property
    def absolute(self) -> bool:
        """True where a sigmoid ends the model; a bare output has no common scale."""
        import torch

        return isinstance(self._model.activation_fn, torch.nn.Sigmoid)

    @one_at_a_time
    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """The model's score of the n pairs (queries[i], documents[i]), shape (n,), its own activation applied.

        Raises ModelError when the model gives something that is not a finite number.
        """
        pairs = [[scrub(query), scrub(document)] for query, document in zip(queries, documents, strict=True)]
        if not pairs:
            return np.zeros(0, dtype=np.float32)
        scores = self._model.predict(pairs, batch_size=self._batch_size, show_progress_bar=False)
        return check_finite(scores, queries, self.name)


def _load_cross_encoder(name: str, folder: Path, device: str, dtype: str, max_length: int | None) -> Any:
    """The model from a folder. Raises ModelError as ``CrossEncoderReward`` says."""
    import torch
    from sentence_transformers import CrossEncoder

    for kind in _architectures(name, folder):
        if kind.endswith(("Model", "ForMaskedLM")) and not kind.endswith("LMHeadModel"):
            raise ModelError(f"{name} is a {kind}, not a reranker: it has no weights for a score")
    with loading_model(f"the cross-encoder {name}", folder, f"or use {OFFLINE_CHOICE}"):
        model = CrossEncoder(
            str(folder),
            max_length=max_length,
            device=device,
            local_files_only=True,
            model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True},
        )
    if model.num_labels != 1:
        raise ModelError(f"{name} has {model.num_labels} outputs, a reranker has one; or use {OFFLINE_CHOICE}")
    model.eval()
    text_is_data(model)
    network = getattr(model[0], "auto_model", None) if len(model) else None
    if network is not None and (limit := readable_tokens(network, model.tokenizer)):
        name = "max_seq_length" if hasattr(type(model), "max_seq_length") else "max_length"  # since 6 the former
        setattr(model, name, min(getattr(model, name) or limit, limit))
    return model


def _architectures(name: str, folder: Path) -> list[str]:
    """The classes that ``config.json`` names; a model of several modules may have none at the top."""
    file = folder / "config.json"
    if not file.exists():
        return []
    try:
        return [str(kind) for kind in load_json(file.read_text(encoding="utf-8")).get("architectures") or []]
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{name} cannot be loaded as a cross-encoder: {file} cannot be read ({error})") from error


RERANK = "/v1/rerank"

DOCUMENTS_AT_ONCE = 64
"""In one request."""


class HttpReranker(ServedModel):
    """Implements ``RewardModel`` over HTTP: the server scores (query, document) pairs with a template of its own.

    One query and up to ``DOCUMENTS_AT_ONCE`` of its documents a request.
    """

    absolute = False
    """Servers do not tell; a bare output has no common scale."""

    @property
    def fingerprint(self) -> str:
        """Address, name, what the server says about the model, and the endpoint."""
        return f"http-rerank-1 {self.served.fingerprint} rerank"

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """The server's scores of the n pairs (queries[i], documents[i]), shape (n,).

        Raises EngineError, whose ``answered`` holds each pair's score that came all the same.
        """
        by_query: dict[str, list[int]] = {}
        for i, (query, _) in enumerate(zip(queries, documents, strict=True)):
            by_query.setdefault(query, []).append(i)
        batches = [
            places[start : start + DOCUMENTS_AT_ONCE]
            for places in by_query.values()
            for start in range(0, len(places), DOCUMENTS_AT_ONCE)
        ]
        if not batches:
            return np.zeros(0, dtype=np.float32)
        _ = self.served  # asked once, not by every thread

        def ask(places: list[int]) -> list[float]:
            return self._ask(scrub(queries[places[0]]), [scrub(documents[i]) for i in places])

        try:
            answers = dict(enumerate(self._client.each(batches, ask)))
        except EngineError as error:
            raise type(error)(str(error), _spread(batches, error.answered)) from error
        scores = _spread(batches, answers)
        return np.array([scores[i] for i in range(len(queries))], dtype=np.float32)

    def _ask(self, query: str, documents: list[str]) -> list[float]:
        body = {"model": self.name, "query": query, "documents": documents, "top_n": len(documents)}
        found = {e.index: e.relevance_score for e in self._client.post(RERANK, body, RerankedList).results}
        if sorted(found) != list(range(len(documents))):
            raise EngineError(
                f"{self._client.base_url}{RERANK} does not answer with a score for each document, but for "
                f"{sorted(found)[:5]} of {len(documents)}"
            )
        return [found[i] for i in range(len(documents))]


def _spread(batches: Sequence[Sequence[int]], answers: Any) -> dict[int, float]:
    """Place of a batch -> its scores becomes place of a pair -> its score."""
    return {i: score for b, scores in answers.items() for i, score in zip(batches[b], scores, strict=True)}
