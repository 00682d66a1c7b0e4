"""Fetch the BEIR collections that are small enough for one machine: resumable, checked, never trusting the archive."""

from __future__ import annotations

import io
import logging
import lzma
import stat
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from searchrl.data.dataset import SPLITS
from searchrl.errors import ConfigError, DownloadError, OutputError, nearest
from searchrl.files import new_folder
from searchrl.progress import progress_bar

logger = logging.getLogger(__name__)

BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"
BEIR_MD5 = {  # as published in BEIR's README
    "arguana": "8ad3e3c2a5867cdced806d6503f29b99",
    "fiqa": "17918ed23cd04fb15047f73e6c3bd9d9",
    "nfcorpus": "a89dba18a62ef92f7d323ec890a0d38d",
    "scidocs": "38121350fc3a4d2f48850f6aff52e4a9",
    "scifact": "5f7d1de60b170fc8027bb7898e2efca1",
}
MEMBERS = ("corpus.jsonl", "queries.jsonl", *(f"qrels/{split}.tsv" for split in SPLITS))

CHUNK_BYTES = 1 << 16
MAX_ARCHIVE_BYTES = 1 << 30
"""Fifty times the size of FiQA's archive: more than that is not one of these collections."""
MAX_UNPACKED_BYTES = 4 << 30
TIMEOUT_SECONDS = (10.0, 60.0)
"""To connect; between two chunks."""


class BadArchive(Exception):
    """The archive is damaged, or holds what a dataset's archive must not hold; the message says what."""


def fetch_beir(name: str, data_dir: Path, mirror: str | None = None) -> Path:
    """Return the folder ``data_dir/name``, downloading it first if it is not there.

    ``mirror`` is a base URL that holds ``{name}.zip``. An interrupted download stays as ``{name}.zip.part``, and the
    next call goes on where it stopped. The folder appears only once its archive is complete, verified and unpacked.

    Raises ``DownloadError``, naming the URL and the offline choice, if the archive cannot be fetched or is not what
    BEIR published; ``OutputError`` if ``data_dir`` cannot be written; ``ConfigError`` for any other name.
    """
    if name not in BEIR_MD5:
        raise ConfigError(f"{name!r} cannot be downloaded; {nearest(name, BEIR_MD5)}")
    folder = data_dir / name
    if folder.is_dir():
        return folder
    url = f"{(mirror or BEIR_URL).rstrip('/')}/{name}.zip"
    part = data_dir / f"{name}.zip.part"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _download(url, part, BEIR_MD5[name])
        unzip_beir(part, name, folder)
        part.unlink()
    except BadArchive as error:
        part.unlink()
        raise _failure(url, f"{error}; the file was removed") from error
    except OSError as error:
        raise OutputError(f"{data_dir}: cannot hold the dataset {name!r} ({error.strerror or error})") from error
    logger.info("%s: downloaded from %s", folder, url)
    return folder


def _failure(url: str, what: str) -> DownloadError:
    return DownloadError(
        f"{url}: {what}. Offline: name a local folder in the BEIR layout as the dataset, or use pydocs, which needs no "
        "download"
    )


def _download(url: str, part: Path, md5: str) -> None:
    """Complete ``part`` from ``url`` and compare it with the published MD5: against damage, not against an attacker."""
    import requests
    from pooch import file_hash

    have = part.stat().st_size if part.exists() else 0
    try:
        _append(url, part, have)
    except requests.HTTPError as error:
        nothing_more = error.response.status_code == requests.codes.requested_range_not_satisfiable and have
        if not nothing_more:
            raise _failure(url, f"the server answered {error.response.status_code} {error.response.reason}") from error
        if file_hash(part, "md5") != md5:
            part.unlink()
            return _download(url, part, md5)
    except requests.RequestException as error:
        size = part.stat().st_size
        if not size:
            part.unlink()
        if size > have:
            raise _failure(url, f"broke off after {size} bytes; run again to resume") from error
        if isinstance(error, requests.Timeout):
            raise _failure(url, "the host did not answer in time; run again, or name a mirror") from error
        if isinstance(error, requests.ConnectionError):
            raise _failure(url, "the host cannot be reached; try again later, or name a mirror") from error
        raise _failure(url, f"not a usable address ({error})") from error
    found = file_hash(part, "md5")
    if found != md5:
        part.unlink()
        raise _failure(url, f"wrong MD5 {found}, expected {md5}; the file was removed, run again")


def _append(url: str, part: Path, have: int) -> None:
    """Append what is missing after ``have`` bytes; the whole file where the server cannot resume."""
    from pooch import HTTPDownloader

    class Part(io.FileIO):
        def write(self, chunk: Any) -> int:
            if self.tell() + len(chunk) > MAX_ARCHIVE_BYTES:
                raise BadArchive(f"sends more than {MAX_ARCHIVE_BYTES >> 20} MiB")
            return super().write(chunk)

    # "identity": byte ranges and the length must count the bytes of the file, not of a compressed transfer.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with ExitStack() as opened:
        file = opened.enter_context(Part(part, "ab"))
        bar = opened.enter_context(progress_bar(1, part.stem, "B", unit_scale=True))

        def start(response: Any, **_: Any) -> None:
            opened.callback(response.close)  # pooch leaves that to the garbage collector
            if have and response.status_code == 200:
                logger.info("%s: the server cannot resume, starting over", url)
                file.truncate(0)

        ask = HTTPDownloader(bar, CHUNK_BYTES, headers=headers, timeout=TIMEOUT_SECONDS, hooks={"response": start})
        ask(url, file, None)


def unzip_beir(archive: Path, name: str, folder: Path) -> None:
    """Unpack ``{name}/corpus.jsonl`` and so on to ``folder``, which appears when complete.

    Only the files of the BEIR layout are written; others in the archive are left there. Raises ``BadArchive`` if it is
    no zip, lacks those files, holds a link or a path that leads out of its folder, or unpacks to more than
    ``MAX_UNPACKED_BYTES``; ``OutputError`` if ``folder`` exists or cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _trusted_members(opened, name)
            with new_folder(folder) as temporary:
                budget = MAX_UNPACKED_BYTES
                for relative, info in members.items():
                    target = temporary / relative
                    target.parent.mkdir(exist_ok=True)
                    budget = _unpack(opened, info, target, budget)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadArchive(f"not a readable zip file ({error})") from error


def _trusted_members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """Layout path -> member, once every member has been found harmless."""
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        windows = PureWindowsPath(info.filename)
        if path.is_absolute() or windows.is_absolute() or windows.drive or ".." in windows.parts:
            raise BadArchive(f"the archive holds {info.filename!r}, a path that leads out of its folder")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise BadArchive(f"the archive holds {info.filename!r}, a link")
        relative = path.relative_to(name).as_posix() if path.parts[:1] == (name,) else ""
        if relative in MEMBERS:
            found[relative] = info
    missing = [member for member in MEMBERS[:2] if member not in found]
    if missing or len(found) == len(MEMBERS[:2]):
        raise BadArchive(f"the archive lacks {' and '.join(f'{name}/{m}' for m in missing or ['qrels/*.tsv'])}")
    return found


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, budget: int) -> int:
    """Write one member and return what is left of the budget; sizes are counted, not taken from the archive's word."""
    with archive.open(info) as source, open(target, "wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            budget -= len(chunk)
            if budget < 0:
                raise BadArchive(f"the archive unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB")
            file.write(chunk)
    return budget
