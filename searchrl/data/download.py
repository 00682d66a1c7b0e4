"""Fetch the BEIR collections that are small enough for one machine: resumable, checked, never trusting the archive."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.data.unzip import BadArchive, unzip_beir
from searchrl.errors import ConfigError, DownloadError, OutputError, nearest

if TYPE_CHECKING:
    import requests

logger = logging.getLogger(__name__)

BEIR_URL = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets"
BEIR_MD5 = {  # as published in BEIR's README
    "arguana": "8ad3e3c2a5867cdced806d6503f29b99",
    "fiqa": "17918ed23cd04fb15047f73e6c3bd9d9",
    "nfcorpus": "a89dba18a62ef92f7d323ec890a0d38d",
    "scidocs": "38121350fc3a4d2f48850f6aff52e4a9",
    "scifact": "5f7d1de60b170fc8027bb7898e2efca1",
}

CHUNK_BYTES = 1 << 16
MAX_ARCHIVE_BYTES = 1 << 30
"""Fifty times the size of FiQA's archive: more than that is not one of these collections."""
TIMEOUT_SECONDS = (10.0, 60.0)
"""To connect; between two chunks."""


def fetch_beir(name: str, data_dir: Path, mirror: str | None = None) -> Path:
    """Return the folder ``data_dir/name``, downloading it first if it is not there.

    ``mirror`` is a base URL that holds ``{name}.zip``. An interrupted download stays as ``{name}.zip.part``, and the
    next call goes on where it stopped. The folder appears only once its archive is complete, verified and unpacked.

    Raises ``DownloadError``, naming the URL and the offline choice, if the archive cannot be had or is not what BEIR
    published; ``OutputError`` if ``data_dir`` cannot be written; ``ConfigError`` for any other name.
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
        _download(url, part)
        _verify(url, part, BEIR_MD5[name])
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
        f"{url}: {what}. Offline: name a local folder in the BEIR layout as the dataset, or use --dataset pydocs, "
        "which needs no download"
    )


def _download(url: str, part: Path) -> None:
    """Complete ``part`` from ``url``, asking only for the bytes that are missing."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    try:
        with _request(url, have) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable and have:
                if _total_size(response) == have:
                    return  # complete already: interrupted between download and unpacking
                part.unlink()
                return _download(url, part)
            if not response.ok:
                raise _failure(url, f"the server answered {response.status_code} {response.reason}")
            _save(response, url, part, have)
    except requests.Timeout as error:
        raise _failure(url, "the host did not answer in time; run again, or name a mirror") from error
    except requests.ConnectionError as error:
        raise _failure(url, "the host cannot be reached; try again later, or name a mirror") from error
    except requests.RequestException as error:
        raise _failure(url, f"not a usable address ({error})") from error


def _request(url: str, offset: int) -> requests.Response:
    import requests

    # "identity": byte ranges and the length must count the bytes of the file, not of a compressed transfer.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)


def _save(response: requests.Response, url: str, part: Path, have: int) -> None:
    """Append to ``part`` where the server went on from there; start over where it sends the whole file."""
    import requests
    from tqdm import tqdm

    start = _range_start(response) if response.status_code == requests.codes.partial_content else 0
    if start != have:
        if start:
            raise _failure(url, f"the server sent bytes from {start} when asked for those from {have}")
        logger.info("%s: the server cannot resume, starting over", url)
    total = _total_size(response)
    size = start
    try:
        with (
            open(part, "ab" if start else "wb") as file,
            tqdm(
                desc=part.name.removesuffix(".part"),
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            for chunk in response.iter_content(CHUNK_BYTES):
                size += file.write(chunk)
                bar.update(len(chunk))
                if size > MAX_ARCHIVE_BYTES:
                    break
    except requests.RequestException as error:
        raise _failure(url, f"broke off after {size} of {total or 'unknown'} bytes; run again to resume") from error
    if size > MAX_ARCHIVE_BYTES:
        part.unlink()
        raise _failure(url, f"sends more than {MAX_ARCHIVE_BYTES >> 20} MiB; removed")
    if total is not None and size < total:
        raise _failure(url, f"broke off after {size} of {total} bytes; run again to resume")


def _range_start(response: requests.Response) -> int:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else 0


def _total_size(response: requests.Response) -> int | None:
    """Size of the whole file where the server says it, in ``Content-Range`` or else ``Content-Length``."""
    if match := re.search(r"/(\d+)$", response.headers.get("Content-Range", "")):
        return int(match[1])
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() and response.status_code == 200 else None


def _verify(url: str, part: Path, expected: str) -> None:
    """Compare with the published MD5: against damage and mix-ups, not against an attacker."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(part, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        part.unlink()
        raise _failure(url, f"wrong MD5 {digest.hexdigest()}, expected {expected}; the file was removed, run again")
