"""The shared checkpoints folder: holds the newest run's policies, and never loses a file that no run put there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from searchrl.errors import OutputError
from searchrl.files import write_text

LEDGER = "published.json"
"""The names that the newest run put into the folder."""


def check_target(target: Path) -> None:
    """Make the folder and see that nothing in it will be in the way. Raises OutputError, as ``publish`` would later."""
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target}: cannot be made ({error.strerror}); give another `checkpoint_dir`") from error
    _refuse_foreign(target, ["policy_best.pt", "policy_final.pt"], _published(target))


def publish(folder: Path, target: Path) -> None:
    """Copy a run's checkpoints to the shared folder, in place of those of the run published before.

    A ``policy_*.pt`` there that no run published is left alone, and refused rather than replaced.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        before = _published(target)
        files = sorted(folder.glob("policy_*.pt"))
        _refuse_foreign(target, [f.name for f in files], before)
        # Both the old names and the new: killed anywhere below, the folder holds no file that this does not list.
        write_text(target / LEDGER, json.dumps(sorted({*before, *(f.name for f in files)})))
        for name in before:
            if not (folder / name).exists():
                (target / name).unlink(missing_ok=True)
        for file in files:
            temporary = target / f".{file.name}.tmp"
            shutil.copyfile(file, temporary)
            temporary.replace(target / file.name)
        write_text(target / LEDGER, json.dumps([f.name for f in files]))
    except OSError as error:
        raise OutputError(f"{target}: checkpoints cannot be copied there ({error}); they are in {folder}") from error


def _published(target: Path) -> list[str]:
    ledger = target / LEDGER
    try:
        names = json.loads(ledger.read_text(encoding="utf-8")) if ledger.exists() else []
        return [Path(name).name for name in names]
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(
            f"{ledger}: cannot be read ({error}); remove it with the policies beside it, or give another "
            "`checkpoint_dir`"
        ) from error


def _refuse_foreign(target: Path, names: list[str], published: list[str]) -> None:
    for name in names:
        if (target / name).exists() and name not in published:
            raise OutputError(
                f"{target / name}: not written by a training run, so it is not replaced; move it away, or give another "
                "`checkpoint_dir`"
            )
