"""Loads a causal language model and its tokenizer from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from searchrl.device import DeviceChoice
from searchrl.errors import ModelError
from searchrl.models.quiet import loading


def load_causal_lm(name: str, folder: Path, choice: DeviceChoice) -> tuple[Any, Any]:
    """Tokenizer and model, on the device and in the format asked for. ``name`` is how errors call it.

    Raises ModelError where the folder lacks weights, is damaged, or does not fit the device.
    """
    import transformers

    library: Any = transformers  # whose types lag behind its arguments

    try:
        with loading():
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
    except ModelError:
        raise
    except Exception as error:  # foreign files fail in as many ways as there are formats
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"the language model {name!r} cannot be loaded from {folder} ({reason})") from error
    # Sampling settings that the model's author recommends would bend greedy decoding (repetition penalties) or
    # contradict it (temperature); only the tokens that end a text are kept.
    model.generation_config = library.GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    model.eval()
    if choice.dtype == "int8":
        from searchrl.models.int8 import to_int8

        # The vocabulary projection is a small part of the work, and what it rounds would fall on the scores directly.
        to_int8(model.base_model, lambda text: model.base_model(**tokenizer(text, return_tensors="pt")))
    return tokenizer, model
