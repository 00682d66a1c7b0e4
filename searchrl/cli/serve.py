"""``searchrl serve``: the HTTP service. ``searchrl serve FOLDER`` serves what ``searchrl tune`` made."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace

from searchrl.cli.tune import choice_of, corpus_name, tuned_folder
from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.service import ServerConfig

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl serve``."""
    run_command(_serve, arguments)


def _serve(arguments: Sequence[str]) -> None:
    config = parse(ServerConfig, as_tuned(arguments), "searchrl serve")
    token = os.environ.get(config.token_env)
    if token == "":
        raise ConfigError(f"{config.token_env} is set but empty: unset it, or set it to a long random text")
    if token is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token):
        raise ConfigError(
            f"{config.token_env} holds a token that no client can send: use letters, digits and ._~+/=- only, "
            "without blanks (RFC 6750)"
        )
    if token is None and not config.on_loopback:
        logger.warning("%s is not set: whoever can reach %s can use the service", config.token_env, config.host)
    if config.models.cluster.ray:
        from searchrl.service.replicas import run

        run(replace(config, read_only=True), token)
        return
    from searchrl.service.app import create_app, make_service
    from searchrl.service.connections import bind, make_server

    with bind(config) as listening:  # before the models are loaded, which takes longer
        app = create_app(make_service(config), config, token)
        make_server(app, config).run(sockets=[listening])


def as_tuned(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments, with what a folder of ``searchrl tune`` as the first of them stands for."""
    folder = tuned_folder(arguments, words=1)
    if folder is None:
        return arguments
    where = ["--corpora", str(folder / "corpora"), "--corpus", corpus_name(folder)]
    policy = ["--checkpoint", str(folder / "policy.pt"), "--encoder", choice_of(folder)[1]]
    return [*where, *policy, *arguments[1:]]


if __name__ == "__main__":
    main()
