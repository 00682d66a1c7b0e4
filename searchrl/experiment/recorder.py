"""What a training run leaves behind: curves, checkpoints, the state to resume from; and the shared checkpoints folder.

That folder holds the newest run's policies, and never loses a file that no run put there.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from searchrl.agent.checkpoint import CARD, PolicyCheckpoint, save_policy
from searchrl.agent.run_dir import RunDir, append_metrics, check_seal, cut_metrics, seal
from searchrl.agent.trainer import Progress, Trainer
from searchrl.config import TrackerName
from searchrl.env.tree import Action
from searchrl.errors import OutputError
from searchrl.experiment.callbacks import Callback
from searchrl.files import load_json, write_bytes, write_text
from searchrl.tracking import Tracker, check_tracker, open_tracker

PACKAGES = ("searchrl", "torch", "transformers", "sentence-transformers", "numpy", "gymnasium", "bm25s")
LEDGER = "published.json"
"""The names that the newest run put into the shared folder."""


class Recorder(Callback):
    """Writes to a run's folder: ``metrics.jsonl``, checkpoints, the state to resume from; and tells the tracker.

    checkpoint_dir: gets copies of the checkpoints at the end; None for none. resume: go on from a saved state. Raises
    ConfigError where the tracker is not installed.
    """

    def __init__(
        self,
        run: RunDir,
        checkpoint_every: int,
        checkpoint_dir: Path | None,
        resume: bool,
        tracker: TrackerName = "tensorboard",
    ) -> None:
        check_tracker(tracker)
        self.run = run
        self._tracker = tracker
        self._every, self._shared, self._resume = checkpoint_every, checkpoint_dir, resume
        self._curves: Tracker | None = None
        self._since = time.monotonic()
        self._episodes_before = 0

    def on_start(self, trainer: Trainer, identity: PolicyCheckpoint) -> None:
        """Restore a saved state where there is one, and open the curves there."""
        self._trainer, self._identity = trainer, identity
        if self._resume and self.run.state.exists():
            check_seal(self.run, trainer.restore(self.run.state))
        start = trainer.episode
        cut_metrics(self.run, start)
        write_text(self.run.path / "versions.json", json.dumps(_versions(), indent=2) + "\n")
        self._curves = open_tracker(self._tracker, self.run.path, self.run.path.name, start)
        self._curves.note("run", str(self.run.path))
        self._episodes_before = start
        self._since = time.monotonic()

    def close(self) -> None:
        """Close the curves."""
        if self._curves is not None:
            self._curves.close()

    def on_update(self, progress: Progress) -> None:
        """Take note of one update."""
        episode, report = progress.episode, progress.report
        assert self._curves is not None
        actions = {f"actions/{a.name.lower()}": share for a, share in zip(Action, report.actions, strict=True)}
        self._curves.log(
            {
                "train/return": report.episode_return,
                "train/entropy": report.entropy,
                "losses/policy_loss": report.policy_loss,
                "losses/value_loss": report.value_loss,
                "losses/grad_norm": report.grad_norm,
                **actions,
            },
            episode,
        )
        before = episode - self._trainer.config.batch_size
        if episode // self._every != before // self._every:
            self._save(self.run.checkpoints / f"policy_{episode // self._every * self._every}.pt")
        if progress.improved:
            self._save_best()
        if progress.dev is not None:
            self._after_evaluation(progress)

    def on_end(self) -> None:
        """Write ``policy_final.pt``, and publish the run's checkpoints."""
        folder = self.run.checkpoints
        self._save_best()  # again, should a run that was killed have left a better one
        self._save(folder / "policy_final.pt")
        if self._shared is not None:
            publish(folder, self._shared)

    def save_state(self) -> str:
        """Save where training stands, between two updates, and say how to go on."""
        self._trainer.save(self.run.state, seal(self.run))
        return f"saved at episode {self._trainer.episode}; go on with the same command and `resume`"

    def kept(self) -> str:
        """What a run that came to no end has left."""
        best = self.run.checkpoints / "policy_best.pt"
        if not self._trainer.best_episode:
            return "it came to no look at the dev queries, so no policy is kept"
        return f"the best policy until then, of episode {self._trainer.best_episode}, is {best}"

    def _save_best(self) -> None:
        trainer = self._trainer
        best = replace(self._identity, policy=trainer.best_policy(), dev_score=trainer.best_dev_score)
        save_policy(self.run.checkpoints / "policy_best.pt", replace(best, episode=trainer.best_episode))

    def _after_evaluation(self, progress: Progress) -> None:
        dev, report, episode = progress.dev, progress.report, progress.episode
        assert dev is not None
        now = time.monotonic()
        rate = (episode - self._episodes_before) / max(now - self._since, 1e-9)
        self._since, self._episodes_before = now, episode
        assert self._curves is not None
        seen = {"dev/return": dev.score, "dev/nDCG@10": dev.gain, "charts/episodes_per_second": rate}
        self._curves.log(seen, episode)
        append_metrics(
            self.run,
            {
                "episode": episode,
                "return": report.episode_return,
                "entropy": report.entropy,
                "policy_loss": report.policy_loss,
                "value_loss": report.value_loss,
                "grad_norm": report.grad_norm,
                "actions": dict(zip((a.name.lower() for a in Action), report.actions, strict=True)),
                "dev_return": dev.score,
                "dev_ndcg_at_10": dev.gain,
                "time": {"episodes_per_second": rate},
            },
        )
        # Last, so that what a resumed run finds on disk is never ahead of what it will write again.
        self._trainer.save(self.run.state, seal(self.run))

    def _save(self, path: Path) -> None:
        save_policy(path, replace(self._identity, policy=self._trainer.policy, episode=self._trainer.episode))


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


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
            write_bytes(target / file.name, file.read_bytes())
        for name in {*before, *(f.name for f in files)}:
            _remove_card((target / name).with_suffix(".md"))
        write_text(target / LEDGER, json.dumps([f.name for f in files]))
    except OSError as error:
        raise OutputError(f"{target}: checkpoints cannot be copied there ({error}); they are in {folder}") from error


def _remove_card(path: Path) -> None:
    """Remove a model card, which is about the policy that stood beside it before; other files stay."""
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8").startswith(CARD.partition("#")[0]):
            path.unlink()


def _published(target: Path) -> list[str]:
    ledger = target / LEDGER
    try:
        names = load_json(ledger.read_text(encoding="utf-8")) if ledger.exists() else []
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
