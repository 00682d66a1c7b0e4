"""Packages that not everybody needs, and how to install them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from searchrl.errors import ConfigError


def install_command(extra: str) -> str:
    """The command that installs what an extra asks for, by the names of its packages: right for a clone and a wheel.

    ``pip install 'searchrl[...]'`` would ask the package index for SearchRL itself.

    >>> install_command("faiss")
    "pip install 'faiss-cpu>=1.8'"
    """
    try:
        wanted = requires("searchrl") or []
    except PackageNotFoundError:  # run from a folder that was never installed
        wanted = []
    marked = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    packages = [one.partition(";")[0].strip().replace(" ", "") for one in wanted if marked.search(one)]
    quoted = " ".join(f"'{one}'" for one in packages)
    return f"pip install {quoted}" if packages else f"pip install -e '.[{extra}]'"


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """What is imported within needs an extra. Raises ConfigError with the command that installs what is missing."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(f"the package {error.name} is missing: {install_command(extra)}") from error


def require(module: str, extra: str) -> None:
    """Raise ConfigError with the command that installs an extra where its module is missing."""
    if not is_installed(module):
        raise ConfigError(f"the package {module} is missing: {install_command(extra)}")


def is_installed(module: str) -> bool:
    """Whether a module is there, without loading more than the packages it is in."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


MCP = "mcp.server.mcpserver"
"""Of the Model Context Protocol's SDK, version 2; version 1 has no such module."""
