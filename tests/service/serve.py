"""A service in a process of its own, with the models of ``parts.py``: ``python serve.py FOLDER [LIMIT=NUMBER ...]``
prints its port."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from searchrl.service import LimitConfig
from searchrl.service.app import create_app
from searchrl.service.connections import make_server
from searchrl.service.service import Service
from tests.service.parts import config_of, services

if __name__ == "__main__":
    limits = {
        name: type(getattr(LimitConfig, name))(value) for name, _, value in (x.partition("=") for x in sys.argv[2:])
    }
    config = config_of(Path(sys.argv[1]), **limits)
    app = create_app(Service(config, services()), config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        make_server(app, config, log_level="warning").run(sockets=[listening])
