"""From a model's name to a local folder: a folder as it is, or a public model fetched from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from searchrl.errors import ModelError

HUB_TIMEOUT = 10.0
"""Seconds that the hub may take to say what it has, before a copy fetched earlier is used, or the offline choice named.
Without a limit a network that swallows packets would hold the command for minutes."""

WANTED = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]
UNWANTED = ["onnx/*", "openvino/*", "*/onnx/*", "original/*", "*.msgpack", "*/data_config.json"]


def model_folder(name: str, offline_choice: str) -> Path:
    """The local folder of ``name``: itself where it is a folder, else fetched from the hub or found in its cache.

    Only safetensors weights are fetched: other formats may run code when they are loaded. Raises ModelError where the
    model cannot be had, naming ``offline_choice`` (say ``--encoder all-MiniLM-L6-v2``), which always can.
    """
    folder = Path(name).expanduser()
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
        trouble = _first_line(error)
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=revision is None,
                etag_timeout=HUB_TIMEOUT,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
            )
        )
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"the model {name!r} cannot be fetched ({trouble or _first_line(error)}): {way_out}"
        ) from error
    except Exception as error:
        raise ModelError(f"the model {name!r} cannot be fetched ({_first_line(error)}): {way_out}") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}".rstrip(": ")
