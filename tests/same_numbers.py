"""What a change of structure must not change: digests of policies, rankings and results, to compare two commits.

    python -m tests.same_numbers pydocs [COLLECTION ...] > before.txt     # at one commit
    python -m tests.same_numbers pydocs [COLLECTION ...] | diff before.txt -

Trains on human judgments with one seed and evaluates on the test queries, by the commands themselves. Collections other
than pydocs are found in $SEARCHRL_DATA. Takes a minute or two a collection, most of it encoding, once.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def command(script: str, *flags: str, cwd: Path) -> None:
    """Run one of the commands in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, str(ROOT / script), *flags], cwd=cwd, check=True, stdout=sys.stderr, env=environment
    )


def digest(data: bytes) -> str:
    """The first 16 hex digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def weights(path: Path) -> str:
    """Of every tensor of a policy, bit for bit."""
    tensors = torch.load(path, weights_only=True)["weights"]
    return digest(b"".join(name.encode() + tensors[name].numpy().tobytes() for name in sorted(tensors)))


def results(path: Path) -> str:
    """Of all means and tests of an evaluation."""
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["details"]  # versions, fingerprints, the processor
    return digest(json.dumps(content, sort_keys=True).encode())


def main() -> None:
    """Print a line for each thing that must stay."""
    for collection in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            command("train.py", "--dataset", collection, "--reward", "qrels", "--device", "cpu", cwd=place)
            command("eval.py", "--num-queries", "0", "--device", "cpu", "--output-dir", "out", cwd=place)
            for name in ("policy_best", "policy_final"):
                sys.stdout.write(f"{collection} {name} {weights(place / 'checkpoints' / f'{name}.pt')}\n")
            for file in sorted((place / "out").glob("*.run")):
                sys.stdout.write(f"{collection} {file.name} {digest(file.read_bytes())}\n")
            sys.stdout.write(f"{collection} results {results(place / 'out' / 'results.json')}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
