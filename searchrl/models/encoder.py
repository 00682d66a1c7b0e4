"""Texts to vectors: by a sentence-transformers model in this process, or by a server's /v1/embeddings."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from searchrl.checks import at_least
from searchrl.device import choose_device, encoder_dtype
from searchrl.errors import EngineError, ModelError, reason
from searchrl.models.answers import EmbeddingList
from searchrl.models.folders import (
    DEFAULT_ENCODER,
    encoder_folder,
    folder_fingerprint,
    format_name,
    loading_model,
)
from searchrl.models.http_client import ServedModel
from searchrl.models.tokens import default_budget, readable_tokens, scrub, text_is_data, token_batches
from searchrl.progress import progress_bar
from searchrl.threads import LOADING, lazy, one_at_a_time

if TYPE_CHECKING:
    import torch

    from searchrl.models.sentence_bert import SentenceBert

FloatArray = NDArray[np.float32]
Similarity = Literal["cosine", "dot"]
Kind = Literal["query", "document"]

CHARACTERS_PER_TOKEN = 4
"""Of English prose, about; it only shapes batches."""

REMEMBERED = 1024
"""Queries whose vectors an encoder keeps, those asked for last: a few MB, 20 MB where they are as long as may be."""

CUT = {"vllm": {"truncate_prompt_tokens": -1}}
"""How a server is told to cut long texts instead of refusing them; others cut by themselves or have no word for it."""


class Encoder:
    """A sentence encoder; the embedded all-MiniLM-L6-v2 unless named otherwise. Loaded when it is first needed.

    name: see ``folders.encoder_folder``. device: as torch names it. dtype: see ``device.encoder_dtype``; ``int8`` on
    x86 CPUs (see ``int8.py``), ``bfloat16`` or ``float16`` elsewhere are faster than the default, ``float32``.
    token_budget: about as many tokens in one forward pass (see ``tokens.default_budget``). Raises ModelError where the
    model is not available or is not a sentence-transformers model; at the first text, where its files are damaged.
    """

    def __init__(
        self,
        name: str = DEFAULT_ENCODER,
        device: str = "cpu",
        *,
        dtype: str = "auto",
        token_budget: int | None = None,
    ) -> None:
        self._budget = default_budget(device) if token_budget is None else token_budget
        at_least("token_budget", self._budget, 1)
        self._folder = encoder_folder(name)
        if not (self._folder / "modules.json").is_file():
            raise ModelError(
                f"{self._folder} is not a sentence-transformers model (no modules.json); use {DEFAULT_ENCODER}"
            )
        self.name = name
        self.similarity = _similarity(self._folder)
        """How the model compares vectors: by ``cosine``, then they have unit length, or by ``dot``, then their own."""
        self._device = device
        self.dtype = encoder_dtype(choose_device(device), dtype).dtype
        """Its numeric format."""
        self._remembered: OrderedDict[str, FloatArray] = OrderedDict()

    @lazy
    def fingerprint(self) -> str:
        """Names weights, configuration and numeric format."""
        own = () if self.similarity == "cosine" else (self.similarity,)
        return folder_fingerprint(self._folder, format_name(self.dtype), *own)

    @lazy
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.encode(["dimension"])[0])

    @lazy
    def _model(self) -> SentenceBert | LibraryModel:
        import torch

        from searchrl.models import sentence_bert

        _ = self.fingerprint  # of the files as they are now, should they change while the model is in use
        dtype = torch.float32 if self.dtype == "int8" else getattr(torch, self.dtype)
        model: SentenceBert | LibraryModel
        if shape := sentence_bert.described(self._folder):
            with LOADING:
                model = sentence_bert.load(self._folder, shape, self._device, dtype)
        else:
            with loading_model(f"the encoder {self.name!r}", self._folder):
                model = LibraryModel(self._folder, self._device, dtype)
        if self.dtype == "int8":
            from searchrl.int8 import to_int8

            to_int8(model.network, lambda text: model.encode([text], None))
        return model

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """Places of the texts that are encoded together; encoded alone, such a batch stays as it is."""
        longest = self._model.longest
        lengths = [min(1 + len(text) // CHARACTERS_PER_TOKEN, longest) for text in texts]
        return token_batches(lengths, self._budget)

    @one_at_a_time
    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Kind = "document",
        show_progress: bool = False,
        description: str = "encoding",
    ) -> FloatArray:
        """Vectors, (n, dim) float32, in the order of ``texts``; what exceeds the model's maximum is cut. Inner products
        compare them as the model does: their length is 1 where that is by cosine.

        ``kind`` selects the model's own prompt for queries or documents, where it defines one. A query's vector is
        the same bits in any company, and is remembered; documents run in batches of similar length, where the last bits
        may differ with the company, but the same call repeats exactly.
        """
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        if kind == "document":
            return self._encode(texts, kind, show_progress, description)
        remembered = self._remembered
        found = {text: remembered[text] for text in texts if text in remembered}
        if new := [text for text in dict.fromkeys(texts) if text not in found]:
            found.update(zip(new, self._encode(new, kind, show_progress, description), strict=True))
        for text in list(found)[-REMEMBERED:]:
            remembered[text] = found[text].copy()  # not a view, which would keep all the others
            remembered.move_to_end(text)
        while len(remembered) > REMEMBERED:
            remembered.popitem(last=False)
        return np.stack([found[text] for text in texts])

    def _encode(self, texts: Sequence[str], kind: Kind, show_progress: bool, description: str) -> FloatArray:
        vectors: FloatArray | None = None
        with progress_bar(len(texts), description, "text", show=show_progress) as bar:
            encode = self._model.encode_each if kind == "query" else self._model.encode
            for batch in self.batches(texts):
                part = encode([scrub(texts[i]) for i in batch], kind)
                if vectors is None:
                    vectors = np.empty((len(texts), part.shape[1]), dtype=np.float32)
                vectors[batch] = part
                bar.update(len(batch))
        assert vectors is not None
        if not np.isfinite(vectors).all():
            raise ModelError(f"the encoder {self.name!r} gave vectors that are not finite; use dtype float32")
        if self.similarity == "cosine":
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


class LibraryModel:
    """An encoder of any kind, run by sentence-transformers. dtype: of its weights, as torch names it."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        from sentence_transformers import SentenceTransformer

        model_settings = {"dtype": dtype, "use_safetensors": True}
        self.network = SentenceTransformer(
            str(folder), device=device, local_files_only=True, model_kwargs=model_settings
        ).eval()
        """Its layers, which ``int8.to_int8`` may change."""
        text_is_data(self.network)
        inner = getattr(self.network[0], "auto_model", None)
        if inner is not None and (limit := readable_tokens(inner, self.network.tokenizer)):
            self.network.max_seq_length = min(self.network.max_seq_length or limit, limit)
        self.longest = self.network.max_seq_length or 512
        """Tokens of a text that are read."""

    def encode(self, texts: Sequence[str], kind: Kind | None = "document") -> FloatArray:
        """Vectors of one batch, (n, width) float32, with the model's prompt of that kind; what exceeds ``longest``
        tokens is cut.
        """
        network = self.network
        ways = {"query": network.encode_query, "document": network.encode_document}
        encode: Any = ways.get(kind, network.encode) if kind else network.encode
        vectors: FloatArray = encode(list(texts), batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True)
        return vectors

    def encode_each(self, texts: Sequence[str], kind: Kind | None = "query") -> FloatArray:
        """The same, one by one."""
        return np.concatenate([self.encode([text], kind) for text in texts])


def _similarity(folder: Path) -> Similarity:
    """What a model's configuration says it compares vectors by; cosine where it says nothing.

    Raises ModelError where that is neither cosine nor an inner product, of vectors that are not of unit length (on
    which distances order as cosines do).
    """
    try:
        settings = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        name = str(settings.get("similarity_fn_name") or "cosine")
        unit = bool(modules) and str(modules[-1]["type"]).endswith("Normalize")
    except FileNotFoundError:
        return "cosine"
    except (OSError, ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise ModelError(f"{folder}: the encoder's configuration cannot be read ({reason(error)})") from error
    if name == "dot" and not unit:
        return "dot"
    if name not in ("cosine", "dot") and not unit:
        raise ModelError(
            f"{folder}: this encoder compares by {name}; here vectors are compared by cosine or inner product (dot): "
            f"use another encoder, such as {DEFAULT_ENCODER}"
        )
    return "cosine"


class HttpEncoder(ServedModel):
    """An embedding model behind an OpenAI-compatible server; what ``Encoder`` offers.

    base_url, model, connection: see ``ServedModel``. query_prompt, document_prompt: put before each text. batch_size:
    texts in one request. Raises ConfigError on an impossible limit; at the first text, EngineError where the server
    does not answer or does not embed.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        batch_size: int = 32,
        query_prompt: str = "",
        document_prompt: str = "",
        **connection: Any,
    ) -> None:
        at_least("batch_size", batch_size, 1)
        super().__init__(base_url, model, **connection)
        self._batch_size = batch_size
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self._width: int | None = None  # of all vectors so far

    @property
    def fingerprint(self) -> str:
        """Address, name, what the server says about the model, and both prompts."""
        return f"http-1 {self.served.fingerprint} {sorted(self._prompts.items())!r}"

    @lazy
    def dim(self) -> int:
        """Length of a vector."""
        return len(self.encode(["dimension"])[0])

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: Kind = "document",
        show_progress: bool = False,
        description: str = "encoding",
    ) -> FloatArray:
        """Unit-length vectors, (n, dim) float32, in the order of ``texts``. The server cuts what is too long.

        Raises EngineError, whose ``answered`` holds the vectors of the batches that were answered all the same.
        """
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        # An empty text has no token to embed; servers refuse it.
        shown = [self._prompts[kind] + scrub(text) or " " for text in texts]
        batches = [shown[i : i + self._batch_size] for i in range(0, len(shown), self._batch_size)]
        _ = self.served  # asked once, not by every thread
        with progress_bar(len(texts), description, "text", show=show_progress) as bar:

            def embed(batch: list[str]) -> FloatArray:
                vectors = self._embed(batch)
                bar.update(len(batch))
                return vectors

            vectors = np.concatenate(self._client.each(batches, embed))
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))

    def _embed(self, batch: list[str]) -> FloatArray:
        body = {"model": self.name, "input": batch, "encoding_format": "float", **CUT.get(self.served.server, {})}
        entries = sorted(self._client.post("/v1/embeddings", body, EmbeddingList).data, key=lambda entry: entry.index)
        widths = {len(entry.embedding) for entry in entries} | ({self._width} if self._width else set())
        if [entry.index for entry in entries] != list(range(len(batch))) or len(widths) != 1:
            raise EngineError(
                f"{self._client.base_url}/v1/embeddings answers {len(batch)} texts with {len(entries)} vectors, and "
                f"with vectors of {sorted(widths)[:5]} numbers; is {self.name} served with pooling?"
            )
        (self._width,) = widths
        return np.array([entry.embedding for entry in entries], dtype=np.float32)
