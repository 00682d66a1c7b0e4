"""``python -m searchrl.service``: from flags to a running service."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.service.config import ServerConfig

if TYPE_CHECKING:
    from searchrl.service.service import Service

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.service``."""
    run_command(_serve, arguments)


def _serve(arguments: Sequence[str]) -> None:
    config = parse(ServerConfig, arguments, "python -m searchrl.service")
    token = os.environ.get(config.token_env)
    if token == "":
        raise ConfigError(f"{config.token_env} is set but empty: unset it, or set it to a long random text")
    if token is None and not config.on_loopback:
        logger.warning("%s is not set: whoever can reach %s can use the service", config.token_env, config.host)
    import uvicorn

    from searchrl.service.app import create_app

    app = create_app(_service(config), config, token)
    uvicorn.run(
        app,
        host=config.host,
        port=config.port,
        access_log=False,
        timeout_graceful_shutdown=config.shutdown_timeout,
        server_header=False,
    )


def _service(config: ServerConfig) -> Service:
    """Models, agent and corpora; what is missing or damaged is said before the port opens."""
    from searchrl.config import DataConfig, GameConfig
    from searchrl.experiment.parts import Workbench
    from searchrl.service.service import Service

    judge = GameConfig(reward="head" if config.models.reward_model else "lm")
    bench = Workbench(DataConfig(), config.models, judge, show_progress=False)
    encoder, reward = bench.encoder, bench.reward_model
    assert reward is not None
    # Not the judge's: that may read likelihoods in 8-bit integers, too rough to write with, and writes a line at most.
    lm = bench.loader.language_model(bench.lm_name, "chat")
    agent = None
    if config.checkpoint:
        from searchrl.service.agent import Agent

        agent = Agent(config.checkpoint, config.models, encoder)
    service = Service(config, encoder, reward, lm, agent, bench.close)
    encoder.encode(["ready"])  # last, because it takes longest to find out
    return service


if __name__ == "__main__":
    main()
