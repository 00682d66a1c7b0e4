"""Find a dataset by name or path: embedded, in a folder, already downloaded, or to be downloaded."""

from __future__ import annotations

import logging
import os
import tempfile
from importlib import import_module
from pathlib import Path

from searchrl.data.beir import read_beir_folder
from searchrl.data.dataset import Dataset, OwnDocument, with_dev_split, with_own_document
from searchrl.data.download import BEIR_MD5, fetch_beir
from searchrl.data.hub import is_parquet_folder, read_parquet_folder
from searchrl.data.records import plain_or_gz
from searchrl.errors import ConfigError, DataError, nearest
from searchrl.files import cache_path, user_path

logger = logging.getLogger(__name__)

EMBEDDED = "pydocs"
DATA_VARIABLE = "SEARCHRL_DATA"
READERS = {
    "hf": ("searchrl.data.hub", "read_hub"),
    "irds": ("searchrl.data.irds", "read_irds"),
    "mteb": ("searchrl.data.mteb", "read_mteb"),
}
"""What stands before the colon -> module and function that read what stands behind it."""


def load_dataset(
    name_or_path: str,
    *,
    data_dir: Path | None = None,
    mirror: str | None = None,
    seed: int = 42,
    download: bool = True,
    own_document: OwnDocument = "text",
) -> Dataset:
    """Load a dataset and give it a dev split if it has a train split but no dev.

    ``hf:OWNER/NAME`` is a dataset of the Hugging Face hub in BEIR layout (``hub.py``), ``irds:ID`` one that ir_datasets
    knows (``irds.py``), ``mteb:TASK`` a retrieval task of MTEB (``mteb.py``); each needs an extra. Others are looked
    for in this order: ``pydocs``, the embedded dataset; a path to a folder in the BEIR layout, also of parquet files; a
    folder of that name in ``data_dir``, in $SEARCHRL_DATA, or in the user's cache; one of BEIR's smaller collections by
    name, downloaded (from ``mirror`` if given) to the first of these that can be written. own_document: how a document
    is known to be a query itself (``data/own_document.py``).

    Raises ``ConfigError`` for a name that is none of these, ``DataError`` for a dataset that is damaged or missing,
    ``DownloadError`` for one that cannot be fetched.
    """
    if name_or_path == EMBEDDED:
        from searchrl.data.pydocs import load_pydocs

        return with_own_document(with_dev_split(load_pydocs(), seed), own_document)
    kind, _, rest = name_or_path.partition(":")
    if kind in READERS and rest:
        module, function = READERS[kind]
        dataset = getattr(import_module(module), function)(rest)
    else:
        folder = _find(name_or_path, _data_folders(data_dir), mirror, download)
        logger.info("dataset %s: %s", name_or_path, folder)
        dataset = read_parquet_folder(folder) if is_parquet_folder(folder) else read_beir_folder(folder)
    return with_own_document(with_dev_split(dataset, seed), own_document)


def _data_folders(data_dir: Path | None) -> list[Path]:
    named = [str(data_dir or ""), os.environ.get(DATA_VARIABLE, "")]
    return [*(_expanded(folder) for folder in named if folder), cache_path() / "datasets"]


def _expanded(path: str) -> Path:
    try:
        return user_path(path)
    except RuntimeError as error:
        raise ConfigError(f"{path}: {error}") from error


def _find(name: str, data_folders: list[Path], mirror: str | None, download: bool) -> Path:
    path = _expanded(name)
    if not name.strip():
        raise ConfigError(f"the dataset's name is empty; {nearest(name, _known_names(data_folders))}")
    if path.is_absolute() or len(path.parts) != 1 or name.startswith(".") or name.endswith(("/", os.sep)):
        return path
    # A bare name: a folder of results that happens to have it must not stand in the dataset's way.
    candidates = [path, *(folder / name for folder in data_folders)]
    for candidate in candidates:
        if plain_or_gz(candidate / "corpus.jsonl").is_file() or is_parquet_folder(candidate):
            return candidate
    if name in BEIR_MD5:
        if not download:
            looked = ", ".join(str(folder) for folder in data_folders)
            raise DataError(f"the dataset {name!r} is in none of {looked}, and downloading is switched off")
        return fetch_beir(name, next((f for f in data_folders if _writable(f)), data_folders[-1]), mirror)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate  # not a dataset, and the reader will say what is missing
    raise ConfigError(
        f"unknown dataset {name!r}; {nearest(name, _known_names(data_folders))}, "
        f"hf:OWNER/NAME, irds:ID, mteb:TASK, or a path to a folder in the BEIR layout (data_dir and {DATA_VARIABLE} "
        "name where collections lie)"
    )


def _known_names(data_folders: list[Path]) -> set[str]:
    local = {path.parent.name for folder in data_folders for path in folder.glob("*/corpus.jsonl*")}
    return {EMBEDDED, *BEIR_MD5} | local


def _writable(folder: Path) -> bool:
    """Whether a file can be made there, tried rather than asked: permission bits do not tell of read-only disks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
