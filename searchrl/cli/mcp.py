"""``searchrl mcp``: the service's tools for an assistant that starts them as its own process, over stdio."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from searchrl.cli.serve import as_tuned
from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.extras import MCP, install_command, is_installed
from searchrl.service import ServerConfig


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl mcp``."""
    run_command(_mcp, arguments)


def _mcp(arguments: Sequence[str]) -> None:
    config = parse(ServerConfig, as_tuned(arguments), "searchrl mcp")
    if not is_installed(MCP):
        raise ConfigError(f"the Model Context Protocol's SDK, version 2, is not installed: {install_command('mcp')}")
    with _quiet():
        from searchrl.service.app import make_service
        from searchrl.service.mcp import Tools

        service = make_service(config)

    async def serve() -> None:
        try:
            with _quiet():
                await service.start()
            await Tools(service).server.run_stdio_async()
        finally:
            await service.close()

    with redirect_stdout(sys.__stdout__):  # of which the SDK takes the descriptor
        asyncio.run(serve())


@contextmanager
def _quiet() -> Iterator[None]:
    """Send to standard error what models say while they are loaded: standard output carries the protocol alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


if __name__ == "__main__":
    main()
