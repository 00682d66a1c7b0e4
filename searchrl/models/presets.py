"""Which model a name means, and which one each device gets when none is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from searchrl.errors import ModelError, nearest
from searchrl.models.embedded import minilm_folder, smollm2_folder
from searchrl.models.hub import model_folder

JudgingMethod = Literal["likelihood", "graded"]

SMALL_MODEL = 1_000_000_000
"""Parameters below which a model answers instructions near chance, while its likelihoods do tell documents apart."""


@dataclass(frozen=True)
class Preset:
    """A language model with a short name."""

    source: str | Callable[[], Path]
    """A hub name, or what finds the folder of an embedded model."""
    keeps_int8: bool = False
    """Whether its likelihoods in int8 were measured to rank as in float32 (correlation at least .99)."""


LANGUAGE_MODELS = {
    "smollm2-135m": Preset(smollm2_folder, keeps_int8=True),
    "qwen2.5-1.5b": Preset("Qwen/Qwen2.5-1.5B-Instruct"),
    "qwen2.5-3b": Preset("Qwen/Qwen2.5-3B-Instruct"),
}
DEFAULT_LANGUAGE_MODELS = {"cuda": "qwen2.5-3b", "mps": "qwen2.5-1.5b", "cpu": "smollm2-135m"}
OFFLINE_LANGUAGE_MODEL = "smollm2-135m"

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
"""The embedded one; every other name is looked for on disk, then on the hub."""


def default_language_model(device: str) -> str:
    """The preset a device gets when no model is named: ``cuda`` (any number), ``mps`` or ``cpu``."""
    return DEFAULT_LANGUAGE_MODELS[device.partition(":")[0]]


def keeps_int8(name: str) -> bool:
    """Whether this language model is known to keep its likelihoods in 8-bit integers."""
    preset = LANGUAGE_MODELS.get(name.lower())
    return preset is not None and preset.keeps_int8


def judging_method(parameters: int) -> JudgingMethod:
    """How a language model of this size judges relevance unless told otherwise: by query likelihood, or by grades."""
    return "likelihood" if parameters < SMALL_MODEL else "graded"


def language_model_folder(name: str) -> Path:
    """The local folder of a language model: preset, folder, or hub name (``owner/model``).

    Raises ModelError where it cannot be had; for a name without a slash that is neither preset nor folder, with the
    nearest preset.
    """
    preset = LANGUAGE_MODELS.get(name.lower())
    if preset is None:
        if "/" not in name and not Path(name).is_dir():
            raise ModelError(
                f"unknown language model {name!r}: {nearest(name, LANGUAGE_MODELS)}, a local folder, "
                "or a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
            )
        source: str | Callable[[], Path] = name
    else:
        source = preset.source
    return source() if callable(source) else model_folder(source, f"{OFFLINE_LANGUAGE_MODEL} (installed with SearchRL)")


def encoder_folder(name: str) -> Path:
    """The local folder of an encoder: the embedded all-MiniLM-L6-v2, a folder, or a sentence-transformers hub name.

    As in sentence-transformers, a name without a slash belongs to ``sentence-transformers/``. Raises ModelError where
    the encoder cannot be had.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name.removeprefix("sentence-transformers/").lower() == DEFAULT_ENCODER.lower():
        return minilm_folder()
    full_name = name if "/" in name else f"sentence-transformers/{name}"
    return model_folder(full_name, f"{DEFAULT_ENCODER} (installed with SearchRL)")
