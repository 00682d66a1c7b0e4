"""``searchrl serve``: the HTTP service."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.service import ServerConfig

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl serve``."""
    run_command(_serve, arguments)


def _serve(arguments: Sequence[str]) -> None:
    config = parse(ServerConfig, arguments, "searchrl serve")
    token = os.environ.get(config.token_env)
    if token == "":
        raise ConfigError(f"{config.token_env} is set but empty: unset it, or set it to a long random text")
    if token is None and not config.on_loopback:
        logger.warning("%s is not set: whoever can reach %s can use the service", config.token_env, config.host)
    import uvicorn

    from searchrl.service.app import create_app, make_service

    app = create_app(make_service(config), config, token)
    uvicorn.run(
        app,
        host=config.host,
        port=config.port,
        access_log=False,
        timeout_graceful_shutdown=config.shutdown_timeout,
        server_header=False,
    )


if __name__ == "__main__":
    main()
