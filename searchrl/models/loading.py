"""A model's folder: what it says without loading it, what names its content, and how transformers loads it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from searchrl.device import DeviceChoice
from searchrl.errors import ModelError, reason
from searchrl.files import SEAL, file_digest
from searchrl.threads import LOADING

READ = {".json", ".txt", ".model", ".jinja", ".safetensors"}
"""Kinds of file that shape a model's answers: weights, configuration, tokenizer, chat template."""

INT8_VERSION = 2
"""Raise it when ``int8.py`` gives other numbers."""

SHA256 = re.compile(r"[0-9a-f]{64}")

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


def folder_fingerprint(folder: Path, *settings: str | int | bool) -> str:
    """16 hex digits that change with any weight, tokenizer or configuration file, and with any of ``settings``.

    Reads every byte (about a second per 1.5 GB), except where the hub's cache already names a file by its SHA-256.
    Raises ModelError where a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in sorted(path for path in folder.rglob("*") if path.suffix in READ and path.name != SEAL):
            content = path.resolve()
            named = content.parent.name == "blobs" and SHA256.fullmatch(content.name)
            line = f"{path.relative_to(folder).as_posix()} {content.name if named else file_digest(content)}\n"
            digest.update(line.encode())
    except OSError as error:
        raise ModelError(f"{folder} cannot be read ({error.strerror or error})") from error
    digest.update(repr(settings).encode())
    return digest.hexdigest()[:16]


def format_name(dtype: str) -> str:
    """A numeric format as fingerprints spell it."""
    return f"int8-{INT8_VERSION}" if dtype == "int8" else dtype


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and messages below errors; both come back as they were."""
    import transformers

    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def loading() -> Iterator[None]:
    """Hold the process's turn to load a model, quietly."""
    with LOADING, quiet_transformers():
        yield


@contextmanager
def loading_model(what: str, folder: Path, way_out: str = "") -> Iterator[None]:
    """As ``loading``, and whatever goes wrong is a ModelError: foreign files fail in as many ways as there are kinds.

    what: how errors call it, say ``the encoder 'x'``. way_out: ends the error.
    """
    try:
        with loading():
            yield
    except ModelError:
        raise
    except Exception as error:
        hint = f"; {way_out}" if way_out else ""
        raise ModelError(f"{what} cannot be loaded from {folder} ({reason(error)}){hint}") from error


def load_causal_lm(name: str, folder: Path, choice: DeviceChoice) -> tuple[Any, Any]:
    """Tokenizer and model, on the device and in the format asked for. ``name`` is how errors call it.

    Raises ModelError where the folder lacks weights, is damaged, or does not fit the device.
    """
    import transformers

    library: Any = transformers  # whose types lag behind its arguments
    with loading_model(f"the language model {name!r}", folder):
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, loaded = library.AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=choice.torch_dtype,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
        if loaded["missing_keys"]:
            missing = ", ".join(sorted(loaded["missing_keys"])[:3])
            raise ModelError(f"{name}: its weights lack {missing}; these would be random")
        model.to(choice.device)
    # Sampling settings that the model's author recommends would bend greedy decoding (repetition penalties) or
    # contradict it (temperature); only the tokens that end a text are kept.
    model.generation_config = library.GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    model.eval()
    if choice.dtype == "int8":
        from searchrl.models.int8 import to_int8

        # The vocabulary projection is a small part of the work, and what it rounds would fall on the scores directly.
        to_int8(model.base_model, lambda text: model.base_model(**tokenizer(text, return_tensors="pt")))
    return tokenizer, model
