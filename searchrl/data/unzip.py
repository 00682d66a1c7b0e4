"""Unpack a dataset's archive without trusting it."""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from searchrl.data.dataset import SPLITS
from searchrl.files import new_folder

MEMBERS = ("corpus.jsonl", "queries.jsonl", *(f"qrels/{split}.tsv" for split in SPLITS))
MAX_UNPACKED_BYTES = 4 << 30
CHUNK_BYTES = 1 << 20


class BadArchive(Exception):
    """The archive is damaged, or holds what a dataset's archive must not hold; the message says what."""


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
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
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
