"""Loads a causal language model and its tokenizer from a folder, and refuses what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from searchrl.device import DeviceChoice
from searchrl.errors import ModelError
from searchrl.models.quiet import quiet_transformers

GENERATIVE = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How transformers' class names of models that continue a text end."""


def load_causal_lm(name: str, folder: Path, choice: DeviceChoice) -> tuple[Any, Any]:
    """Tokenizer and model, on the device, ready to answer. ``name`` is how errors call it.

    Raises ModelError where the folder holds no causal language model, lacks weights, or does not fit the device.
    """
    import transformers

    library: Any = transformers  # whose types lag behind its arguments

    try:
        with quiet_transformers():
            config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
            kinds = config.architectures or []
            if not any(kind.endswith(GENERATIVE) for kind in kinds):
                kind = " or ".join(kinds) or config.model_type
                raise ModelError(f"{name} is a {kind}, not a causal language model: give one that continues text")
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
    return tokenizer, model.eval()
