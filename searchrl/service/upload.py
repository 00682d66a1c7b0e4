"""A corpus as it comes in: JSON Lines, a piece at a time, checked, encoded and written while the rest is on its way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import numpy as np

from searchrl.data.records import checked_id, checked_text
from searchrl.errors import DataError
from searchrl.search.first_stage import Document
from searchrl.search.worker import Embed, Worker
from searchrl.service.config import LimitConfig
from searchrl.service.corpora import Collection, CorpusStore

MAX_LINE = 1_000_000
"""Bytes of one document."""
BLOCK = 32
"""Documents encoded together: short turns, so that searches come in between."""


class TooLarge(Exception):
    """An upload exceeds a limit."""


class Stalled(Exception):
    """An upload paused for too long."""


async def receive(
    name: str, content: AsyncIterator[bytes], store: CorpusStore, worker: Worker, limits: LimitConfig
) -> Collection:
    """Read, index and publish a corpus. Nothing is left, and the corpus of that name stays, where this fails.

    Raises DataError naming the line at fault, TooLarge, Stalled, and OutputError where the disk cannot be written.
    """
    embed = Embed(store.encoder, "document")
    writer = await asyncio.to_thread(store.begin, name)
    try:
        async for block in _blocks(_documents(_lines(_in_time(content, limits.upload_timeout), limits.max_corpus))):
            if writer.count + len(block) > limits.max_documents:
                raise TooLarge(f"more than {limits.max_documents} documents; see the service's max_documents")
            texts = [f"{title} {text}".strip() for _, title, text in block]
            vectors = await worker.submit(embed, texts, always=True)
            await asyncio.to_thread(writer.add, block, np.stack(vectors))
        if not writer.count:
            raise DataError("empty; one JSON object a line is expected, with '_id' and 'text'")
        return await asyncio.to_thread(store.publish, name, writer)
    finally:
        await asyncio.to_thread(writer.discard)


async def _in_time(content: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    pieces = content.__aiter__()
    while True:
        try:
            yield await asyncio.wait_for(pieces.__anext__(), seconds)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Stalled(f"nothing came for {seconds:g} seconds") from error


async def _lines(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[tuple[int, bytes]]:
    """(number from 1, line) of every line that is not blank."""
    rest, size, number = b"", 0, 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise TooLarge(f"more than {most} bytes; see the service's max_corpus")
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, _short(line, number)
        _short(rest, number + 1)
    if rest.strip():
        yield number + 1, rest


def _short(line: bytes, number: int) -> bytes:
    if len(line) > MAX_LINE:
        raise TooLarge(f"line {number}: more than {MAX_LINE} bytes")
    return line


async def _documents(lines: AsyncIterator[tuple[int, bytes]]) -> AsyncIterator[Document]:
    first: dict[str, int] = {}
    async for number, line in lines:
        parsed = document(line, f"line {number}")
        before = first.setdefault(parsed[0], number)
        if before != number:
            raise DataError(f"line {number}: the id {parsed[0]!r} was used before, in line {before}")
        yield parsed


async def _blocks(documents: AsyncIterator[Document]) -> AsyncIterator[list[Document]]:
    block = []
    async for document in documents:
        block.append(document)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


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
