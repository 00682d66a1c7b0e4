"""Language models of Llama's shape (Llama, SmolLM2, Qwen2) for scoring on a CPU, read without transformers' models.

Importing those takes several times torch's own processor time, and scoring needs no more than the layers. Every
operation is that of transformers, in the same order, so that scores are the same bits. Whatever a folder says beyond
that is not read here: ``described`` is None. Text is written by transformers alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = "model.safetensors"
KINDS = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
"""``model_type`` -> the class that ``architectures`` has to name."""

DEFAULTS: Mapping[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "partial_rotary_factor": 1.0,
    "use_sliding_window": False,
    "is_causal": True,
    "quantization_config": None,
}
"""What ``config.json`` may say."""

TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes of tokenizers that are all in ``tokenizer.json``."""


@dataclass(frozen=True)
class Shape:
    """What a folder says of its language model."""

    width: int
    layers: int
    heads: int
    shared_heads: int
    """Heads of keys and values."""
    head: int
    """Numbers a head."""
    inner: int
    vocabulary: int
    epsilon: float
    theta: float
    biased: bool
    """Whether queries, keys and values have a bias."""
    tied: bool
    """Whether tokens are read and predicted by the same table."""


def described(folder: Path) -> Shape | None:
    """The shape of a language model that can be read here; None of any other, and of damaged ones."""
    try:
        return _described(folder)
    except Exception:  # foreign files fail in as many ways as there are kinds; who loads from them says how
        return None


def _described(folder: Path) -> Shape | None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config["model_type"]
    rope = {"rope_type": "default", "rope_theta": config.get("rope_theta", 10000.0)} | (
        config.get("rope_parameters") or {}
    )
    plain = (
        config["architectures"] == [KINDS.get(kind)]
        and all(config.get(key, default) == default for key, default in DEFAULTS.items())
        and rope.keys() == {"rope_type", "rope_theta"}
        and rope["rope_type"] == "default"
        and set(config.get("layer_types") or ["full_attention"]) == {"full_attention"}
        and not any(folder.glob("*.index.json"))
    )
    if not plain:
        return None
    heads, width = config["num_attention_heads"], config["hidden_size"]
    shape = Shape(
        width=width,
        layers=config["num_hidden_layers"],
        heads=heads,
        shared_heads=config.get("num_key_value_heads") or heads,
        head=config.get("head_dim") or width // heads,
        inner=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        epsilon=config.get("rms_norm_eps", 1e-6),
        theta=rope["rope_theta"],
        biased=kind == "qwen2",
        tied=config.get("tie_word_embeddings", False),
    )
    with safe_open(folder / WEIGHTS, framework="np") as weights:
        stored = {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    with torch.device("meta"):
        wanted = {name: tuple(weight.shape) for name, weight in Llama(shape).named_parameters()}
    return shape if stored == wanted else None


def tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a folder; without its list of models where the file alone says all. That list gives
    some kinds of models rules of their own (Qwen2), Llama none.
    """
    import transformers

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    library: Any = transformers  # whose types lag behind its arguments
    try:
        settings = read("tokenizer_config.json")
        named = settings.get("tokenizer_class") in TOKENIZERS and "auto_map" not in settings
        plain = named and read("config.json")["model_type"] == "llama"
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        plain = False
    kind = library.PreTrainedTokenizerFast if plain else library.AutoTokenizer
    return kind.from_pretrained(folder, local_files_only=True)


def load(folder: Path, shape: Shape, dtype: torch.dtype) -> Llama:
    """The model of a folder that ``described`` knows. Raises what safetensors and torch raise where it is damaged."""
    with torch.device("meta"):
        model = Llama(shape)
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        # Copied: what is mapped from a file is not aligned as products like it.
        named = {name: weights.get_tensor(name).to(dtype, copy=True) for name in weights.keys()}  # noqa: SIM118
    if shape.tied:
        named["lm_head.weight"] = named["model.embed_tokens.weight"]
    model.load_state_dict(named, assign=True)
    return model.eval().requires_grad_(False)


class Llama(nn.Module):
    """Names of weights are those published; arguments and outputs are those of transformers that are used."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model = _Body(shape)
        self.lm_head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if shape.tied:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def base_model(self) -> _Body:
        """Everything below the logits."""
        return self.model

    def get_output_embeddings(self) -> nn.Linear:
        """What makes logits (..., vocabulary) of states (..., width)."""
        return self.lm_head

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        """``logits`` of rows without padding, (rows, tokens, vocabulary)."""
        return SimpleNamespace(logits=self.lm_head(self.model(input_ids).last_hidden_state))


class _Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        # Not drawn at random: that would import torch's compiler.
        table = torch.empty(shape.vocabulary, shape.width)
        self.embed_tokens = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call]
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm = _Norm(shape)
        self._shape = shape

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        use_cache: bool = False,
    ) -> SimpleNamespace:
        """``last_hidden_state``, (rows, tokens, width). attention_mask: (rows, 1, tokens, tokens) bool; without one
        every token sees those before it. position_ids: (rows, tokens).
        """
        states = self.embed_tokens(input_ids)
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        turns = _turns(position_ids, self._shape, states.dtype)
        for layer in self.layers:
            states = layer(states, attention_mask, turns)
        return SimpleNamespace(last_hidden_state=self.norm(states))


def _turns(positions: Tensor, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary positions (Su et al. 2021), (rows, 1, tokens, head) each."""
    steps = torch.arange(0, shape.head, 2, dtype=torch.float, device=positions.device) / shape.head
    angles = positions[..., None].float() * (1.0 / (shape.theta**steps))
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype)[:, None], angles.sin().to(dtype)[:, None]


def _turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = turns
    half = x.shape[-1] // 2
    return (x * cos) + (torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin)


class _Norm(nn.Module):
    """Root mean square normalisation (Zhang and Sennrich 2019), in float32."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self._epsilon = shape.epsilon

    def forward(self, states: Tensor) -> Tensor:
        wide = states.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return self.weight * wide.to(states.dtype)


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = _Attention(shape)
        self.mlp = _Inner(shape)
        self.input_layernorm = _Norm(shape)
        self.post_attention_layernorm = _Norm(shape)

    def forward(self, states: Tensor, mask: Tensor | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        states = states + self.self_attn(self.input_layernorm(states), mask, turns)
        out: Tensor = states + self.mlp(self.post_attention_layernorm(states))
        return out


class _Attention(nn.Module):
    """Attention whose heads share keys and values in groups (Ainslie et al. 2023)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        own, shared = shape.heads * shape.head, shape.shared_heads * shape.head
        self.q_proj = nn.Linear(shape.width, own, bias=shape.biased)
        self.k_proj = nn.Linear(shape.width, shared, bias=shape.biased)
        self.v_proj = nn.Linear(shape.width, shared, bias=shape.biased)
        self.o_proj = nn.Linear(own, shape.width, bias=False)
        self._head, self._group = shape.head, shape.heads // shape.shared_heads

    def forward(self, states: Tensor, mask: Tensor | None, turns: tuple[Tensor, Tensor]) -> Tensor:
        rows, tokens, _ = states.shape

        def split(part: Tensor) -> Tensor:
            return part.view(rows, tokens, -1, self._head).transpose(1, 2)

        query = _turned(split(self.q_proj(states)), turns)
        key = _turned(split(self.k_proj(states)), turns)
        value = split(self.v_proj(states))
        if mask is not None and self._group > 1:
            key, value = key.repeat_interleave(self._group, 1), value.repeat_interleave(self._group, 1)
        seen = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            mask,
            scale=self._head**-0.5,
            is_causal=mask is None and tokens > 1,
            enable_gqa=mask is None and self._group > 1,
        )
        out: Tensor = self.o_proj(seen.transpose(1, 2).reshape(rows, tokens, -1))
        return out


class _Inner(nn.Module):
    """A gated layer (SwiGLU, Shazeer 2020)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.inner, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.inner, bias=False)
        self.down_proj = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(states)) * self.up_proj(states))
        return out
