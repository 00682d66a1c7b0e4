"""Sentence encoders of BERT's shape (all-MiniLM, BGE, E5, GTE), read without the libraries that trained them.

sentence-transformers takes several times torch's own processor time to import; these encoders need a tokenizer, a
handful of layers and a mean. Every operation is that of sentence-transformers over transformers, in the same order, so
that vectors are the same bits. Whatever a folder says beyond that is not read here: ``described`` is None.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from searchrl.errors import ModelError

WEIGHTS = "model.safetensors"
UNUSED = ("pooler.", "embeddings.position_ids")
"""Beginnings of names of weights that no vector depends on."""

CONFIG = {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu"}
DEFAULTS: Mapping[str, Any] = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "dtype": "float32",
    "torch_dtype": "float32",
    "quantization_config": None,
}
"""What ``config.json`` has to say, and what it may say."""

TOKENIZER: Mapping[str, Any] = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}
TOKENS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
"""Likewise ``tokenizer_config.json``; ``do_lower_case`` may be either."""

MODULES = ("Transformer", "Pooling", "Normalize")
"""The ends of their types, in ``modules.json``; the last may be missing."""


@dataclass(frozen=True)
class Shape:
    """What a folder says of its encoder."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    kinds: int
    epsilon: float
    mean: bool
    """A text's vector is the mean of its tokens'; if not, that of the first."""
    normalised: bool
    longest: int
    """Tokens of a text that are read."""


def described(folder: Path) -> Shape | None:
    """The shape of an encoder that can be read here; None of any other, and of damaged ones."""
    try:
        return _described(folder)
    except Exception:  # foreign files fail in as many ways as there are kinds; who loads from them says how
        return None


def _described(folder: Path) -> Shape | None:
    def read(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    modules = read("modules.json")
    ends = [str(module["type"]).rpartition(".")[2] for module in modules]
    config, tokenizer = read("config.json"), read("tokenizer_config.json")
    extra, pooling = read("sentence_bert_config.json"), read(f"{modules[1]['path']}/config.json")
    settings = "config_sentence_transformers.json"
    own = read(settings) if (folder / settings).exists() else {}
    pooled = {name.removeprefix("pooling_mode_") for name, on in pooling.items() if "pooling_mode" in name and on}
    limits = [extra.get("max_seq_length"), tokenizer.get("model_max_length"), config["max_position_embeddings"]]
    plain = (
        ends in (list(MODULES), list(MODULES[:2]))
        and modules[0]["path"] == ""
        and CONFIG.items() <= {key: value for key, value in config.items() if key in CONFIG}.items()
        and all(config.get(key, default) == default for key, default in DEFAULTS.items())
        and extra.keys() <= {"max_seq_length", "do_lower_case"}
        and not extra.get("do_lower_case")
        and pooled in ({"mean_tokens"}, {"cls_token"})
        and not any((own.get("prompts") or {}).values())
        and not (own.get("default_prompt_name") or own.get("truncate_dim"))
        and _plain_tokenizer(read("tokenizer.json"), tokenizer)
        and not any(folder.glob("*.index.json"))
    )
    if not plain:
        return None
    shape = Shape(
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        inner=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        positions=config["max_position_embeddings"],
        kinds=config["type_vocab_size"],
        epsilon=config["layer_norm_eps"],
        mean=pooled == {"mean_tokens"},
        normalised=len(modules) == len(MODULES),
        longest=min(int(limit) for limit in limits if limit),
    )
    if min(shape.width, shape.layers, shape.heads, shape.inner) < 1:
        return None
    with safe_open(folder / WEIGHTS, framework="np") as weights:
        stored = {name for name in weights.keys() if not name.startswith(UNUSED)}  # noqa: SIM118
    tiny = replace(shape, width=shape.heads, inner=1, vocabulary=1, positions=1)  # for the names
    return shape if stored == set(_network(tiny).state_dict()) else None


def _plain_tokenizer(content: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether ``tokenizer.json`` and what transformers makes of its settings are the same: BERT's own."""
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    frame = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    frame.append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
    model = {key: value for key, value in content["model"].items() if key != "vocab"}
    lower = config.get("do_lower_case", True)
    return (
        str(config.get("tokenizer_class", "BertTokenizer")).removesuffix("Fast") == "BertTokenizer"
        and all(config.get(key, value) == value for key, value in TOKENIZER.items() if key != "do_lower_case")
        and all(config.get(key, token) in (token, {"content": token}) for key, token in TOKENS.items())
        and config.get("padding_side", "right") == config.get("truncation_side", "right") == "right"
        and content["normalizer"] == {**normalizer, "lowercase": lower}
        and content["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and content["post_processor"]["single"] == frame
        and model.pop("type", "WordPiece") == "WordPiece"
        and model == {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
        and {token["content"] for token in content["added_tokens"]} <= {*TOKENS.values(), "[MASK]"}
    )


class SentenceBert:
    """A sentence encoder in memory. dtype: of weights and vectors, as torch names it.

    Raises what safetensors and torch raise where the files are damaged or do not fit the shape.
    """

    def __init__(self, folder: Path, shape: Shape, device: str, dtype: torch.dtype) -> None:
        self.longest = shape.longest
        """Tokens of a text that are read."""
        self._shape, self._device = shape, device
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # texts that spell them are text
        self.tokenizer.enable_truncation(shape.longest)
        self.tokenizer.enable_padding(pad_id=self.tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
        self.network = _network(shape)
        """Its layers, which ``int8.to_int8`` may change."""
        with safe_open(folder / WEIGHTS, framework="pt") as weights:
            # Copied: what is mapped from a file is not aligned as products like it.
            named = {
                name: weights.get_tensor(name).to(device, dtype, copy=True)
                for name in weights.keys()  # noqa: SIM118
                if not name.startswith(UNUSED)
            }
        self.network.load_state_dict(named, assign=True)
        self.network.eval().requires_grad_(False)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], kind: str | None = "document") -> NDArray[np.float32]:
        """Vectors of one batch, (n, width) float32; what exceeds ``longest`` tokens is cut. Texts of every kind are
        alike: models that set them apart are not read here.
        """
        order = np.argsort([-len(text) for text in texts])  # rows in the order of sentence-transformers
        encoded = self.tokenizer.encode_batch([texts[i] for i in order])
        ids = torch.tensor([row.ids for row in encoded], device=self._device)
        mask = torch.tensor([row.attention_mask for row in encoded], device=self._device)
        vectors = np.empty((len(texts), self._shape.width), dtype=np.float32)
        vectors[order] = self._pooled(self.network(ids, mask), mask)
        return vectors

    @torch.inference_mode()
    def encode_each(self, texts: Sequence[str], kind: str | None = "query") -> NDArray[np.float32]:
        """Vectors (n, width) of texts, each the very bits that ``encode`` gives of it alone.

        A product of matrices may round otherwise in other company, so each has one text's rows; all texts go through a
        matrix before the next is read from memory.
        """
        rows = [torch.tensor([self.tokenizer.encode(text).ids], device=self._device) for text in texts]
        states = self.network.each(rows)
        parts = [self._pooled(part, torch.ones_like(row)) for part, row in zip(states, rows, strict=True)]
        return np.concatenate(parts)

    def _pooled(self, states: Tensor, mask: Tensor) -> NDArray[np.float32]:
        """Texts' vectors from their tokens' states."""
        if self._shape.mean:
            weights = mask.unsqueeze(-1).to(states.dtype)
            total = (states * weights).sum(1, dtype=torch.float32)
            pooled = (total / weights.sum(1, dtype=torch.float32).clamp(min=1e-9)).to(states.dtype)
        else:
            pooled = states[:, 0]
        if self._shape.normalised:
            pooled = functional.normalize(pooled, p=2, dim=-1)
        vectors: NDArray[np.float32] = pooled.float().cpu().numpy()
        return vectors


def load(folder: Path, shape: Shape, device: str, dtype: torch.dtype) -> SentenceBert:
    """The encoder of a folder that ``described`` knows. Raises ModelError where its weights cannot be read."""
    try:
        return SentenceBert(folder, shape, device, dtype)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"the encoder cannot be loaded from {folder} ({error})") from error


Lengths = list[int] | None
"""Tokens of each text, where several stand in one row without padding."""


class Network(nn.Module):
    """BERT without the layer that classifies; names are those of its published weights."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States of tokens, (rows, tokens, width). ids, mask: (rows, tokens) int64, the mask 0 where there is none."""
        states = self.embeddings(ids)
        padded = bool((mask == 0).any())
        width = mask.shape[1]
        allowed = mask.bool()[:, None, None, :].expand(-1, 1, width, -1) if padded else None
        layers: Any = self.encoder.layer
        for layer in layers:
            states = layer(states, allowed)
        out: Tensor = states
        return out

    def each(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """States of texts, (1, tokens, width) each, as ``forward`` gives them of one alone. rows: (1, tokens) int64."""
        lengths = [row.shape[1] for row in rows]
        states = torch.cat([self.embeddings(row) for row in rows], dim=1)
        layers: Any = self.encoder.layer
        for layer in layers:
            states = layer(states, None, lengths)
        return list(torch.split(states, lengths, dim=1))


def _network(shape: Shape) -> Network:
    """A network whose weights are still to be loaded; the random ones are drawn behind everybody's back."""
    with torch.random.fork_rng(devices=[]):
        return Network(shape)


class _Embeddings(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocabulary, shape.width)
        self.position_embeddings = nn.Embedding(shape.positions, shape.width)
        self.token_type_embeddings = nn.Embedding(shape.kinds, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        kinds = torch.zeros_like(ids)
        states = self.word_embeddings(ids) + self.token_type_embeddings(kinds)
        out: Tensor = self.LayerNorm(states + self.position_embeddings(places))
        return out


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = _Attention(shape)
        self.intermediate = nn.Module()
        self.intermediate.dense = nn.Linear(shape.width, shape.inner)
        self.output = _Added(shape.inner, shape)

    def forward(self, states: Tensor, allowed: Tensor | None, lengths: Lengths = None) -> Tensor:
        states = self.attention(states, allowed, lengths)
        inner = functional.gelu(_product(self.intermediate.dense, states, lengths))
        out: Tensor = self.output(inner, states, lengths)
        return out


class _Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self = nn.Module()
        for name in ("query", "key", "value"):
            setattr(self.self, name, nn.Linear(shape.width, shape.width))
        self.output = _Added(shape.width, shape)
        self._heads, self._size = shape.heads, shape.width // shape.heads

    def forward(self, states: Tensor, allowed: Tensor | None, lengths: Lengths = None) -> Tensor:
        layers: Any = self.self
        query, key, value = (_product(layer, states, lengths) for layer in (layers.query, layers.key, layers.value))
        if lengths is None:
            seen = self._seen(query, key, value, allowed)
        else:
            texts = zip(*(torch.split(part, lengths, dim=1) for part in (query, key, value)), strict=True)
            seen = torch.cat([self._seen(q, k, v, None) for q, k, v in texts], dim=1)
        out: Tensor = self.output(seen, states, lengths)
        return out

    def _seen(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
        rows, tokens, width = query.shape
        query, key, value = (
            part.view(rows, tokens, self._heads, self._size).transpose(1, 2) for part in (query, key, value)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, allowed, scale=self._size**-0.5)
        return seen.transpose(1, 2).reshape(rows, tokens, width)


class _Added(nn.Module):
    """What a block adds to its input."""

    def __init__(self, inner: int, shape: Shape) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, shape.width)
        self.LayerNorm = nn.LayerNorm(shape.width, eps=shape.epsilon)

    def forward(self, change: Tensor, states: Tensor, lengths: Lengths = None) -> Tensor:
        out: Tensor = self.LayerNorm(_product(self.dense, change, lengths) + states)
        return out


def _product(layer: Any, states: Tensor, lengths: Lengths) -> Tensor:
    """What a linear layer makes of states, of each text by itself where several stand in one row."""
    if lengths is None:
        out: Tensor = layer(states)
        return out
    return torch.cat([layer(part) for part in torch.split(states, lengths, dim=1)], dim=1)
