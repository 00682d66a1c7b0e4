"""Where a policy comes from: a file, the newest run, what ships with SearchRL, or the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from searchrl.errors import CheckpointError

AUTO = "auto"
HUB = "hf://"
HUB_FILE = "policy.pt"
OWN = Path("checkpoints/policy_final.pt")
SHIPPED = Path("checkpoints/pydocs.pt")
TIMEOUT = 10.0
"""Seconds that the hub may take to answer."""


def find_policy(name: str) -> Path:
    """The file of a policy: ``auto``, ``hf://USER/REPO`` or a path, which need not exist.

    Raises CheckpointError when the hub does not have it or cannot be reached and no earlier copy is here.
    """
    if name == AUTO:
        return OWN if OWN.exists() or not SHIPPED.exists() else SHIPPED
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
