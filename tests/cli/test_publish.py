"""The shared folder of policies: the newest run's, and no card of another policy beside them."""

from __future__ import annotations

import json
from pathlib import Path

from searchrl.agent.checkpoint import load_policy, model_card
from searchrl.experiment.recorder import LEDGER, publish

SHIPPED = Path(__file__).parents[2] / "checkpoints" / "pydocs.pt"


def run_with(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(SHIPPED.read_bytes())
    return folder


def test_a_new_policy_takes_the_card_of_the_old_one_with_it(tmp_path: Path) -> None:
    shared = tmp_path / "checkpoints"
    publish(run_with(tmp_path / "first", "policy_final.pt", "policy_64.pt"), shared)
    card = model_card(load_policy(shared / "policy_final.pt"), "policy_final")
    (shared / "policy_final.md").write_text(card)
    (shared / "policy_64.md").write_text(card)
    (shared / "policy_best.md").write_text("My own notes.")
    publish(run_with(tmp_path / "second", "policy_final.pt", "policy_best.pt"), shared)
    kept = ["policy_best.md", "policy_best.pt", "policy_final.pt", LEDGER]
    assert sorted(path.name for path in shared.iterdir()) == sorted(kept)
    assert json.loads((shared / LEDGER).read_text()) == ["policy_best.pt", "policy_final.pt"]
