"""Where a policy comes from: a file, the newest run, what ships with SearchRL, or the Hugging Face hub."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from searchrl.errors import CheckpointError

AUTO = "auto"
HUB = "hf://"
HUB_FILE = "policy.pt"
OWN = Path("checkpoints/policy_final.pt")
SHIPPED = ("pydocs", "transfer")
"""Policies that come with SearchRL, by name."""
TIMEOUT = 10.0
"""Seconds that the hub may take to answer."""


def find_policy(name: str) -> Path:
    """The file of a policy: ``auto``, a name of ``SHIPPED``, ``hf://USER/REPO`` or a path, which need not exist.

    Raises CheckpointError when the hub does not have it or cannot be reached and no earlier copy is here.
    """
    if name == AUTO:
        return OWN if OWN.exists() else shipped_policy(SHIPPED[0])
    if name in SHIPPED and not Path(name).exists():
        return shipped_policy(name)
    if not name.startswith(HUB):
        return Path(name)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name.removeprefix(HUB), HUB_FILE, etag_timeout=TIMEOUT))
    except Exception as error:  # no network, no such repository, a bad name: the hub's library has a type for each
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{name}: {HUB_FILE} cannot be had from the hub ({reason}); check the name, or give a policy's file"
        ) from error


def shipped_policy(name: str) -> Path:
    """The file of a policy that comes with SearchRL: in the clone, or where a wheel has put it."""
    file = Path("checkpoints") / f"{name}.pt"
    clone, installed = Path(__file__).parents[2], Path(sysconfig.get_path("data"), "share", "searchrl")
    here = clone / file
    if here.is_file():
        return file if file.is_file() and file.samefile(here) else here
    return installed / file
