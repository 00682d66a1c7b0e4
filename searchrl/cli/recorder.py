"""What a training run leaves behind: a bar, ``metrics.jsonl``, TensorBoard curves, checkpoints, the state to resume."""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from searchrl.agent.checkpoint import PolicyCheckpoint, save_policy
from searchrl.agent.run_dir import RunDir, append_metrics, cut_metrics
from searchrl.agent.trainer import Progress, Trainer, collapsed
from searchrl.cli.publish import publish
from searchrl.config import TrainConfig
from searchrl.env.tree import Action
from searchrl.files import write_text

logger = logging.getLogger(__name__)

PACKAGES = ("searchrl", "torch", "transformers", "sentence-transformers", "numpy", "gymnasium", "bm25s")


class Recorder:
    """Listens to a ``Trainer`` and writes to the run's folder; ``checkpoint_dir`` gets copies of the checkpoints."""

    def __init__(self, run: RunDir, config: TrainConfig, trainer: Trainer, identity: PolicyCheckpoint) -> None:
        self.run = run
        self.config = config
        self.trainer = trainer
        self.identity = identity
        """A checkpoint that lacks only the policy of the moment."""
        self._warned = False
        self._since = time.monotonic()
        self._episodes_before = 0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()
            self._curves.close()

    def begin(self) -> None:
        """Restore a saved state where there is one, and open the curves and the bar there."""
        if self.config.output.resume and self.run.state.exists():
            self.trainer.restore(self.run.state)
            print(f"resumed at episode {self.trainer.episode}")
        start = self.trainer.episode
        cut_metrics(self.run, start)
        write_text(self.run.path / "versions.json", json.dumps(_versions(), indent=2) + "\n")
        self._curves = SummaryWriter(str(self.run.path), purge_step=start + 1 if start else None)
        total = self.config.learning.episodes
        self._bar = tqdm(total=total, initial=start, desc="train", unit="episode", disable=not sys.stderr.isatty())
        self._episodes_before = start
        self._since = time.monotonic()

    def on_progress(self, progress: Progress) -> None:
        """Take note of one update."""
        episode, report = progress.episode, progress.report
        self._bar.update(episode - self._bar.n)
        curves = self._curves
        curves.add_scalar("train/return", report.episode_return, episode)
        curves.add_scalar("train/entropy", report.entropy, episode)
        curves.add_scalar("losses/policy_loss", report.policy_loss, episode)
        curves.add_scalar("losses/value_loss", report.value_loss, episode)
        curves.add_scalar("losses/grad_norm", report.grad_norm, episode)
        for action, share in zip(Action, report.actions, strict=True):
            curves.add_scalar(f"actions/{action.name.lower()}", share, episode)
        self._warn_of_collapse(progress)
        every = self.config.learning.checkpoint_every
        if episode // every != (episode - self.config.learning.batch_size) // every:
            self._save(self.run.checkpoints / f"policy_{episode}.pt")
        if progress.dev is not None:
            self._after_evaluation(progress)

    def finish(self, share: bool = True) -> None:
        """Write ``policy_best.pt`` and ``policy_final.pt``; ``share``: publish the run's checkpoints."""
        folder = self.run.checkpoints
        best = replace(self.identity, policy=self.trainer.best_policy(), dev_score=self.trainer.best_score)
        save_policy(folder / "policy_best.pt", replace(best, episode=self.trainer.best_episode))
        self._save(folder / "policy_final.pt")
        if share:
            publish(folder, self.config.output.checkpoint_dir)

    def save_state(self) -> str:
        """Save where training stands, between two updates, and say how to go on."""
        self.trainer.save(self.run.state)
        return f"saved at episode {self.trainer.episode}; go on with the same command and --resume"

    def _after_evaluation(self, progress: Progress) -> None:
        dev, report, episode = progress.dev, progress.report, progress.episode
        assert dev is not None
        now = time.monotonic()
        rate = (episode - self._episodes_before) / max(now - self._since, 1e-9)
        self._since, self._episodes_before = now, episode
        self._curves.add_scalar("dev/return", dev.score, episode)
        self._curves.add_scalar("dev/nDCG@10", dev.gain, episode)
        self._curves.add_scalar("charts/episodes_per_second", rate, episode)
        if progress.improved:
            tqdm.write(
                f"episode {episode}: dev return {dev.score:.4f}, nDCG@10 {dev.gain:.4f} (best so far)", sys.stdout
            )
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
        self.trainer.save(self.run.state)

    def _warn_of_collapse(self, progress: Progress) -> None:
        report = progress.report
        if self._warned or not collapsed(report):
            return
        self._warned = True
        logger.warning(
            "episode %d: %.0f%% of the episodes play %s: the policy treats all queries alike and may have collapsed. A "
            "higher --entropy, a lower --step-penalty or the action mask (--mask) keep it exploring.",
            progress.episode,
            100 * report.commonest_share,
            " ".join(Action(a).name for a in report.commonest),
        )

    def _save(self, path: Path) -> None:
        save_policy(path, replace(self.identity, policy=self.trainer.policy, episode=self.trainer.episode))


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
