"""The service several times, by Ray Serve: the same application, with models, threads and batches of its own in each
replica, behind one proxy that replaces those that die.
"""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import replace
from typing import Any

from searchrl.cluster import connect
from searchrl.config import RayConfig
from searchrl.errors import ConfigError, EngineError, reason
from searchrl.extras import needs
from searchrl.service import ServerConfig

logger = logging.getLogger(__name__)

NAME = "searchrl"
HEALTH_SECONDS = 5.0
"""Between two looks at a replica."""


class Replica:
    """In a process of its own."""

    def __init__(self, config: ServerConfig, token: str | None) -> None:
        self._config, self._token = config, token

    def __serve_build_asgi_app__(self) -> Any:
        """The application, with models loaded."""
        from searchrl.service.app import create_app, make_service

        models = replace(self._config.models, cluster=RayConfig())  # a replica computes for itself
        config = replace(self._config, models=models, replicas=1)
        return create_app(make_service(config), config, self._token)


def start(config: ServerConfig, token: str | None) -> str:
    """Start the replicas, or replace those that run, one after another; returns the address when all can answer.

    Raises ConfigError where the extra is missing, EngineError where the replicas do not start.
    """
    connect(config.models.cluster)
    with needs("ray"):
        from ray import serve
    cluster, limits = config.models.cluster, config.limits
    serve.start(http_options={"host": config.host, "port": config.port, "keep_alive_timeout_s": 60})
    deployment = serve.deployment(
        name=NAME,
        num_replicas=config.replicas,
        max_ongoing_requests=limits.max_connections,
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=float(config.shutdown_timeout),
        ray_actor_options={"num_cpus": cluster.ray_cpus, "num_gpus": cluster.ray_gpus},
    )(serve.ingress()(Replica))
    try:
        serve.run(deployment.bind(config, token), name=NAME, route_prefix="/")
    except (RuntimeError, TimeoutError) as error:
        raise EngineError(f"the replicas do not start ({reason(error)}); Ray's log says why") from error
    return f"http://{config.host}:{config.port}"


def run(config: ServerConfig, token: str | None) -> None:
    """Serve until this process is told to stop."""
    if config.port == 0:
        raise ConfigError("`port` 0 with `replicas`: name the port on which Ray's proxy is to listen")
    address = start(config, token)
    logger.warning("%d replicas answer at %s (Ctrl-C stops them)", config.replicas, address)
    stopped = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stopped.set())
    while not stopped.wait(1.0):
        pass
    from ray import serve

    serve.shutdown()
