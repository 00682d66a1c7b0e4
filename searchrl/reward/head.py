"""A reward model with a head: a transformer that reads query and document and gives one number.

Bradley-Terry reward models (Skywork-Reward, GRM and their kin) read a conversation: the query is the user's turn, the
document the assistant's. Cross-encoders (the MS MARCO rerankers, say) read a plain pair of texts. The tokenizer tells
them apart: the first kind has a chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchrl.errors import ConfigError, ModelError
from searchrl.models.batching import pad, scrub, token_batches
from searchrl.models.fingerprint import folder_fingerprint, format_name
from searchrl.models.hub import model_folder
from searchrl.models.language_model import FloatArray
from searchrl.models.quiet import loading
from searchrl.threads import one_at_a_time

if TYPE_CHECKING:
    import torch

Encoded = dict[str, list[int]]

SMALLEST_MAX_LENGTH = 32
"""Tokens. Less leaves no room for a document beside the query and a chat template."""

OFFLINE_CHOICE = "--reward lm"


class HeadReward:
    """A sequence classification model with one output, as transformers' ``AutoModelForSequenceClassification`` has it.

    model: a folder or a hub name. Weights must be safetensors; code that comes with a model is never run.
    max_length: tokens that query and document together may take, never more than the model has positions. A query is
    cut to half of that, a document to what is left. max_batch_tokens: tokens in one forward pass, padding included.
    Raises ConfigError on an impossible limit; ModelError when the model cannot be had or loaded, has other than one
    output, or lacks weights for its head.
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
    ) -> None:
        if max_length < SMALLEST_MAX_LENGTH:
            raise ConfigError(f"max_length is {max_length}; it must be at least {SMALLEST_MAX_LENGTH} tokens")
        if max_batch_tokens < 1:
            raise ConfigError(f"max_batch_tokens is {max_batch_tokens}; it must be at least 1")
        self.name = str(model)
        folder = model_folder(self.name, OFFLINE_CHOICE)
        self._tokenizer, self._model = _load(self.name, folder, dtype)
        self._model.to(device).eval()
        self._pad = _pad_token(self._model, self._tokenizer)
        self._max_batch_tokens = max_batch_tokens
        positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self.max_length = min(max_length, positions or max_length)
        self.fingerprint = f"head-1 {folder_fingerprint(folder, format_name(dtype), self.max_length)}"
        """Names weights, tokenizer, numeric format and the cut."""
        if dtype == "int8":
            from searchrl.models.int8 import to_int8

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
        if not np.isfinite(scores).all():
            query = queries[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise ModelError(f"{self.name} gave no finite score for the query {query!r}; use dtype float32")
        return scores

    def _encode(self, query: str, document: str) -> Encoded:
        """Token ids (and token types, where the model has them) of one pair, at most ``max_length`` long."""
        query, document = self._cut(scrub(query), self.max_length // 2), scrub(document)
        if not self._tokenizer.chat_template:
            return dict(self._tokenizer(query, document, truncation="only_second", max_length=self.max_length))
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
        turns = [{"role": "user", "content": query}, {"role": "assistant", "content": document}]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False)
        return dict(self._tokenizer(text, add_special_tokens=False, verbose=False))

    def _cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that its first ``tokens`` tokens cover."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
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


def _load(name: str, folder: Path, dtype: str) -> tuple[Any, Any]:
    """Tokenizer and model from a folder. Raises ModelError as ``HeadReward`` says."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    try:
        with loading():
            outputs = AutoConfig.from_pretrained(folder).num_labels
            if outputs != 1:
                raise ModelError(
                    f"{name} has {outputs} outputs, a reward model has one: give a reward model or a reranker, or use "
                    f"{OFFLINE_CHOICE} for a causal language model"
                )
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=getattr(torch, "float32" if dtype == "int8" else dtype),
                use_safetensors=True,
                output_loading_info=True,
            )
    except ModelError:
        raise
    except Exception as error:  # a foreign folder fails in as many ways as there are model classes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{name} cannot be loaded as a reward model ({reason}); or use {OFFLINE_CHOICE}") from error
    if report["missing_keys"]:
        lost = ", ".join(sorted(report["missing_keys"])[:3])
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
