"""A folder with a LoRA adapter, used by name like any model: worked into its base once, and kept in the user's cache.

The weights that come out are W + s B A in float32, where s is alpha / r (Hu et al. 2021), or alpha / sqrt(r) in
rank-stabilised adapters (Kalajdzievski 2023). Using an adapter needs none of the libraries that trained it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.errors import ModelError, reason
from searchrl.files import SEAL, cache_dir, sealed_folder

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
VERSION = 1
"""Part of the merged folder's name; raise it when merging changes what it writes."""

FORMAT = {"format": "pt"}
"""What transformers wants to find in the weights' header."""

UNKNOWN = {
    "use_dora": False,
    "bias": "none",
    "rank_pattern": {},
    "alpha_pattern": {},
    "peft_type": "LORA",
}
"""Settings of an adapter, and the only value that is understood here."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter instead of a whole model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def merged_folder(folder: Path, base_folder: Callable[[str], Path]) -> Path:
    """The folder of the whole model: the adapter's base, ``base_folder`` of its name, with the adapter worked in.

    Raises ModelError where the adapter is damaged, of another kind, or does not fit its base.
    """
    from searchrl.models.folders import folder_fingerprint

    config = read_config(folder)
    try:
        base = base_folder(str(config["base_model_name_or_path"]))
    except ModelError as error:
        raise ModelError(
            f"{folder} is an adapter, whose base is missing: {error}; or give the whole model, merged/ of a fitted one"
        ) from error
    name = f"adapter-{folder_fingerprint(folder, folder_fingerprint(base), VERSION)}"
    return sealed_folder(cache_dir() / "models" / name, lambda place: merge(folder, base, place))


def read_config(folder: Path) -> Mapping[str, Any]:
    """What an adapter says of itself. Raises ModelError as ``merged_folder``."""
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        missing = [name for name in ("base_model_name_or_path", "r", "lora_alpha") if not config.get(name)]
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{file} cannot be read ({reason(error)}): write the adapter anew") from error
    if missing:
        raise ModelError(f"{file} lacks {', '.join(missing)}: write the adapter anew")
    for name, known in UNKNOWN.items():
        if (config.get(name) or known) != known:
            raise ModelError(
                f"{file}: adapters with {name} {config[name]} are not read; merge it into its base with PEFT's "
                "merge_and_unload, and give that folder"
            )
    return dict(config)


def name_base(folder: Path, base: str) -> None:
    """Write into a new adapter what its base is called, and the same bytes whatever order its settings came in."""
    file = folder / CONFIG
    config = json.loads(file.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(folder: Path, base: Path, place: Path) -> None:
    """Write the whole model, float32, into the empty folder ``place``; its errors are those of ``merged_folder``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    from searchrl.models.folders import READ

    config = read_config(folder)
    try:
        changes = {key.removeprefix(PREFIX): value.float() for key, value in load_file(folder / WEIGHTS).items()}
        for source in sorted(base.glob("*.safetensors")):
            weights = {name: value.float() for name, value in load_file(source).items()}
            work_in(weights, changes, config)
            save_file({name: value.contiguous() for name, value in weights.items()}, place / source.name, FORMAT)
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} cannot be worked into {base} ({reason(error)})") from error
    if changes:
        raise ModelError(f"{folder} does not fit its base {config['base_model_name_or_path']}: {min(changes)}")
    for origin in (base, folder):  # what the adapter's folder says counts
        for file in origin.iterdir():
            if file.suffix in READ and file.suffix != ".safetensors" and file.name not in (CONFIG, SEAL):
                shutil.copyfile(file, place / file.name)


def work_in(weights: dict[str, Tensor], changes: dict[str, Tensor], config: Mapping[str, Any]) -> None:
    """Change the weights that the adapter names, and take what was used out of ``changes``. Raises ValueError."""
    scale = float(config["lora_alpha"]) / float(config["r"]) ** (0.5 if config.get("use_rslora") else 1.0)
    for name in list(weights):
        if name in changes:
            weights[name] = changes.pop(name)
        down, up = (f"{name.removesuffix('.weight')}.lora_{side}.weight" for side in "AB")
        if down in changes and up in changes:
            change = changes.pop(up) @ changes.pop(down)
            # Weights are (out, in), but (in, out) in GPT-2.
            weights[name] += scale * (change.T if config.get("fan_in_fan_out") else change)
