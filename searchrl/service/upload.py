"""An upload: JSON Lines, as BEIR has them. First all of it is read, checked and kept aside, then it is indexed.

So a client takes as long as its line does, and holds up nobody: the one place where corpora are indexed is taken when
there is something to index.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any

import numpy as np

from searchrl.data.records import GZIP, Document, checked_id, checked_text
from searchrl.errors import DataError, OutputError, reason
from searchrl.search.worker import Embed, Worker
from searchrl.service import LimitConfig
from searchrl.service.corpora import Collection, CorpusStore

GZIP_FORMAT = 16 + zlib.MAX_WBITS
"""What zlib calls gzip."""
MAX_LINE = 1_000_000
"""Bytes of one document."""
BLOCK = 32
"""Documents encoded together: short turns, so that searches come in between."""


class Refused(Exception):
    """A request that is not served, with its HTTP status. retry_after: seconds after which it may be tried again."""

    def __init__(self, status: int, detail: str, retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.status, self.retry_after = status, retry_after


async def keep(content: AsyncIterator[bytes], file: IO[bytes], limits: LimitConfig) -> None:
    """Write an upload's lines to ``file``, once each is known to be a document with an id of its own.

    Raises DataError naming the line at fault, Refused where it is too large or too slow, OutputError where the disk
    cannot be written.
    """
    first: dict[str, int] = {}
    async for number, line in lines_of(unpacked(in_time(content, limits)), limits.max_corpus):
        key = document(line, f"line {number}")[0]
        before = first.setdefault(key, number)
        if before != number:
            raise DataError(f"line {number}: the id {key!r} was used before, in line {before}")
        if len(first) > limits.max_documents:
            raise Refused(413, f"more than {limits.max_documents} documents; see the service's max_documents")
        with _kept():
            file.write(line + b"\n")
    if not first:
        raise DataError("empty; one JSON object a line is expected, with '_id' and 'text'")


async def index(name: str, file: IO[bytes], store: CorpusStore, worker: Worker) -> Collection:
    """Encode, write and publish what was kept. Nothing is left, and the corpus of that name stays, where this fails.

    Raises OutputError where the disk cannot be written.
    """
    embed = Embed(store.encoder, "document")
    await asyncio.to_thread(_rewind, file)
    writer = await asyncio.to_thread(store.begin, name)
    try:
        while block := await asyncio.to_thread(lambda: list(islice(_documents(file), BLOCK))):
            texts = [f"{title} {text}".strip() for _, title, text in block]
            vectors = await worker.submit(embed, texts, always=True)
            await asyncio.to_thread(writer.add, block, np.stack(vectors))
        return await asyncio.to_thread(store.publish, name, writer)
    finally:
        await asyncio.to_thread(writer.discard)


async def in_time(content: AsyncIterator[bytes], limits: LimitConfig) -> AsyncIterator[bytes]:
    """The pieces of an upload. Raises Refused where it pauses, or comes more slowly than an upload may."""
    pieces, waited, size = content.__aiter__(), 0.0, 0
    while True:
        begun, left = time.monotonic(), limits.upload_timeout + size / limits.upload_rate - waited
        try:
            piece = await asyncio.wait_for(pieces.__anext__(), max(0.0, min(limits.upload_timeout, left)))
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            slow = f"the upload is slower than {limits.upload_rate} bytes a second"
            paused = f"nothing came for {limits.upload_timeout:g} seconds"
            raise Refused(408, slow if left < limits.upload_timeout else paused) from error
        waited += time.monotonic() - begun
        size += len(piece)
        yield piece


async def unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same, unpacked where they begin as gzip does, in pieces of at most ``MAX_LINE`` bytes; whatever the header
    ``Content-Encoding`` says. Raises DataError where they are damaged.
    """
    packed: Any = None
    begin: bytes | None = b""
    async for piece in pieces:
        if begin is not None:  # the first bytes tell
            begin += piece
            if len(begin) < len(GZIP):
                continue
            packed = zlib.decompressobj(wbits=GZIP_FORMAT) if begin.startswith(GZIP) else None
            piece, begin = begin, None
        if packed is None:
            yield piece
        while packed is not None and piece:
            if packed.eof:  # another file is packed behind the first
                packed = zlib.decompressobj(wbits=GZIP_FORMAT)
            try:
                yield packed.decompress(piece, MAX_LINE)
            except zlib.error as error:
                raise DataError(f"the upload is packed by gzip, and damaged ({error})") from error
            piece = packed.unconsumed_tail or packed.unused_data
    if begin:
        yield begin
    if packed is not None:
        yield packed.flush()
    if packed is not None and not packed.eof:
        raise DataError("the upload is packed by gzip, and ends too early")


async def lines_of(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[tuple[int, bytes]]:
    """(number from 1, line) of every line that is not blank."""
    rest, size, number = b"", 0, 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise Refused(413, f"more than {most} bytes; see the service's max_corpus")
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, _short(line, number)
        _short(rest, number + 1)
    if rest.strip():
        yield number + 1, rest


def document(line: bytes, place: str) -> Document:
    """One line of a BEIR ``corpus.jsonl``. Raises DataError naming ``place``."""
    try:
        value = json.loads(line.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON in UTF-8 ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise DataError(f"{place}: a JSON object is expected here, not {type(value).__name__}")
    for name in ("_id", "text"):
        if name not in value:
            raise DataError(f"{place}: the field {name!r} is missing")
    title = value.get("title")
    return (
        checked_id(value["_id"], "'_id'", place),
        "" if title is None else checked_text(title, "'title'", place),
        checked_text(value["text"], "'text'", place),
    )


def _short(line: bytes, number: int) -> bytes:
    if len(line) > MAX_LINE:
        raise Refused(413, f"line {number}: more than {MAX_LINE} bytes")
    return line


def _rewind(file: IO[bytes]) -> None:
    with _kept():
        file.flush()
        file.seek(0)


@contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"the upload cannot be kept ({reason(error)}); make room where the corpora are") from error


def _documents(file: IO[bytes]) -> Iterator[Document]:
    return (document(line, "a line that was kept") for line in file)
