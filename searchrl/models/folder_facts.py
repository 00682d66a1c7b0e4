"""What a model's folder says about it without loading it: kind, size and reach."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from searchrl.errors import ModelError

GENERATIVE = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How transformers' classes that continue a text end."""


@dataclass(frozen=True)
class FolderFacts:
    """Read from ``config.json`` and the headers of the weights."""

    parameters: int
    """Number of weights stored."""
    positions: int
    """Tokens that the model reads at once; 2**30 where it names no limit."""


def causal_lm_facts(name: str, folder: Path) -> FolderFacts:
    """The facts of a causal language model; ``name`` is how errors call it.

    Raises ModelError where the folder holds none, or no safetensors weights.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = list(config.get("architectures") or [])
        text = config.get("text_config") or config
        positions = text.get("max_position_embeddings") or text.get("n_positions") or 1 << 30
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the language model {name!r} cannot be loaded: {folder} has no readable config.json ({error})"
        ) from error
    if not any(str(kind).endswith(GENERATIVE) for kind in kinds):
        kind = " or ".join(map(str, kinds)) or config.get("model_type", "model of an unknown kind")
        raise ModelError(f"{name} is a {kind}, not a causal language model: give one that continues text")
    return FolderFacts(_stored_parameters(name, folder), int(positions))


def _stored_parameters(name: str, folder: Path) -> int:
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"the language model {name!r} cannot be loaded: {folder} has no weights (*.safetensors)")
    total = 0
    for file in files:
        try:
            with safe_open(file, framework="np") as weights:
                total += sum(prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"the language model {name!r} cannot be loaded: {file} is damaged ({error})") from error
    return total
