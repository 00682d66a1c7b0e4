"""Reward models' checkpoints as other trainers leave them, made into a folder that is used by name.

An adapter is worked into its base. Weights are read from safetensors or, by torch's ``weights_only``, from
``pytorch_model.bin``; nothing is unpickled. A head under another name (``v_head.summary``, ``value_head``, ``rm_head``)
or in a file of its own (``score.pt``) becomes the head of transformers' sequence classification model.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchrl.errors import ModelError, reason
from searchrl.files import SEAL, load_json, new_folder, user_path, write_seal
from searchrl.fitting.settings import ConvertConfig
from searchrl.models.adapters import PREFIX, is_adapter, read_config, work_in
from searchrl.models.folders import GENERATIVE, READ, language_model_folder, loading_model

if TYPE_CHECKING:
    from torch import Tensor

    Weights = dict[str, Tensor]

WRAPPERS = re.compile(r"^(module\.|_orig_mod\.|pretrained_model\.|base_model\.model\.)+")
"""What trainers put before the names of a model's own weights."""

HEAD = re.compile(
    r"^(model\.)?(v_head|value_head|rm_head|reward_head|score|scores|reward|regression_head|classifier|v_head_layer)"
    r"(\.(summary|weight|bias|out_proj|dense|linear|0))*$"
)
"""What trainers call the layer that gives the score."""

BUFFERS = re.compile(r"(inv_freq|masked_bias|attn\.bias|position_ids)$")
"""Constants that older versions stored beside the weights."""

SAFE, PICKLED = ("*.safetensors",), ("*.bin", "*.pt", "*.pth")
NO_WEIGHTS = re.compile(r"^(training_args|optimizer|scheduler|rng_state.*|trainer_state)\.")


def convert(config: ConvertConfig, say: Callable[[str], None]) -> None:
    """Write the converted model as ``config.output``, whole or not at all.

    Raises ModelError where the checkpoint cannot be read or is no model with at most one score, OutputError where the
    output exists or cannot be written.
    """
    with new_folder(config.output) as place:
        note = convert_folder(config.checkpoint, place)
        write_seal(place)
    say(f"{note}\nmodel: {config.output}, used by name: {how_used(config.output)}")


def how_used(folder: Path) -> str:
    """The flags that name a model of this kind."""
    settings = load_json((folder / "config.json").read_text(encoding="utf-8"))
    causal = any(str(kind).endswith(GENERATIVE) for kind in settings.get("architectures") or [])
    return f"--lm {folder}" if causal else f"--reward head --reward-model {folder}"


def convert_folder(name: str, place: Path) -> str:
    """Write the model of ``name`` into the empty folder ``place``; says what was done."""
    import torch
    import transformers

    folder = _found(name)
    weights, described = _assembled(folder)
    weights = {WRAPPERS.sub("", key): value for key, value in weights.items()}
    library: Any = transformers
    with loading_model(f"the checkpoint {name}", described):
        config = library.AutoConfig.from_pretrained(described, local_files_only=True)
        heads = {key for key in weights if HEAD.match(key)}
        kinds = [str(kind) for kind in config.architectures or []]
        scores = bool(heads) or any(kind.endswith("ForSequenceClassification") for kind in kinds)
        if scores:
            config.num_labels = 1
        kind = library.AutoModelForSequenceClassification if scores else library.AutoModelForCausalLM
        with torch.device("meta"):
            model = kind.from_config(config)
        named, left = _named(weights, heads, model)
        if missing := sorted(set(model.state_dict()) - set(named) - _tied(model)):
            raise ModelError(
                f"{name} has no weights for {', '.join(missing[:3])}: it is not a whole {kinds or 'model'}"
            )
        first = next(iter(named.values()))
        model = model.to(first.dtype)
        model.load_state_dict(named, strict=False, assign=True)
        model.tie_weights()
        model.save_pretrained(place)
    for origin in (described, folder):  # what the checkpoint's own folder says counts
        for file in sorted(origin.iterdir()):
            if file.suffix in READ and file.suffix != ".safetensors" and not _of_weights(file.name):
                shutil.copyfile(file, place / file.name)
    done = f"head: {', '.join(sorted(heads)) or 'as it was'}" if scores else "no head: a causal language model"
    return done + "".join(f"; left out: {what}" for what in left)


def _found(name: str) -> Path:
    folder = user_path(name)
    if not folder.is_dir():
        raise ModelError(f"there is no folder {name}: give a checkpoint's folder")
    return folder


def _of_weights(name: str) -> bool:
    return name in ("config.json", "adapter_config.json", SEAL) or name.endswith(".index.json")


def _tied(model: Any) -> set[str]:
    """Weights that a model takes from another of its own."""
    return {"lm_head.weight"} if getattr(model.config.get_text_config(), "tie_word_embeddings", False) else set()


def _assembled(folder: Path) -> tuple[Weights, Path]:
    """All weights, those of an adapter worked into its base, and the folder whose configuration describes them."""
    if not is_adapter(folder):
        return _stored(folder), folder
    config = read_config(folder)
    base = language_model_folder(str(config["base_model_name_or_path"]))
    weights = {key: value.float() for key, value in _stored(base).items()}
    changes = {key.removeprefix(PREFIX): value.float() for key, value in _stored(folder).items()}
    try:
        work_in(weights, changes, config)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} cannot be worked into {base} ({reason(error)})") from error
    if lost := sorted(key for key in changes if not HEAD.match(WRAPPERS.sub("", key))):
        raise ModelError(f"{folder} does not fit its base {config['base_model_name_or_path']}: {lost[0]}")
    return {**weights, **changes}, base


def _stored(folder: Path) -> Weights:
    """Tensors of all files: safetensors where there are any, else pickled ones; a head's own file besides."""
    import torch
    from safetensors.torch import load_file

    def files(*patterns: str) -> list[Path]:
        return sorted(path for pattern in patterns for path in folder.glob(pattern) if not NO_WEIGHTS.match(path.name))

    safe = files(*SAFE)
    pickled = [path for path in files(*PICKLED) if not safe or is_adapter(folder) or HEAD.match(path.stem)]
    weights: Weights = {}
    for path in [*safe, *pickled]:
        try:
            content = (
                load_file(path) if path in safe else torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            )
        except Exception as error:  # a foreign or damaged file fails in as many ways as there are kinds
            raise ModelError(f"{path} cannot be read as weights alone ({reason(error)})") from error
        if isinstance(content, torch.Tensor):  # a head by itself
            content = {f"{path.stem}.weight": content}
        if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
            raise ModelError(f"{path}: a dictionary of tensors is expected")
        headless = HEAD.match(path.stem) is not None and not any(HEAD.match(WRAPPERS.sub("", k)) for k in content)
        weights |= {f"{path.stem}.{key}" if headless else str(key): value for key, value in content.items()}
    if not weights:
        raise ModelError(f"{folder} has no weights: *.safetensors or pytorch_model.bin")
    return weights


def _named(weights: Weights, heads: set[str], model: Any) -> tuple[Weights, list[str]]:
    """The weights under the names that the model has for them, and what has no place there."""
    places = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    prefix, named, left = f"{model.base_model_prefix}.", {}, []
    for key, value in weights.items():
        place = next((name for name in (key, f"{prefix}{key}", key.removeprefix(prefix)) if name in places), None)
        if place is None and key in heads:
            place = _head_place(key, value, places)
            if place is None and key.endswith("bias"):
                left.append(f"{key} {float(value.float().sum()):.4g}, which moves all scores alike")
                continue
            if place is not None:
                value = value.reshape(places[place])
        if place is None:
            if key.startswith("lm_head.") or BUFFERS.search(key):
                continue
            raise ModelError(f"{key} {tuple(value.shape)} has no place in a {type(model).__name__} with one score")
        if tuple(value.shape) != places[place]:
            raise ModelError(f"{key} is {tuple(value.shape)}, where {type(model).__name__} has {places[place]}")
        named[place] = value.contiguous()
    return named, left


def _head_place(key: str, value: Tensor, places: dict[str, tuple[int, ...]]) -> str | None:
    """Where the model has a layer of one output with as many weights, of the same kind as ``key``."""
    kind = "bias" if key.endswith("bias") else "weight"
    fits = [n for n, shape in places.items() if n.endswith(kind) and shape[0] == 1 and HEAD.match(n)]
    return next((name for name in fits if value.numel() == prod(places[name])), None)
