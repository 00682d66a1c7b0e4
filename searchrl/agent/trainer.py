"""The training loop over a search graph: update, look at the dev queries, save, resume to the very same weights."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from searchrl.agent.checkpoint import load_torch, save_torch
from searchrl.agent.optimizer import AdamW
from searchrl.agent.policy import Policy
from searchrl.agent.reinforce import UpdateReport, check_finite, update
from searchrl.agent.rollout import play
from searchrl.config import LearningConfig
from searchrl.device import generator, seed_everything
from searchrl.env.features import members
from searchrl.env.graph import GraphTensors
from searchrl.errors import CheckpointError, ConfigError, DivergedError

logger = logging.getLogger(__name__)

FINAL_LR = 0.1
FINAL_ENTROPY = 0.01
"""What learning rate and entropy bonus have fallen to at the last episode, as shares of their start."""
COLLAPSE_SHARE = 0.98


@dataclass(frozen=True)
class DevScore:
    """The greedy policy on the dev queries."""

    score: float
    """Mean return; over several collections, the mean of their means."""
    gain: float
    """Mean gain of the final ranking, penalties aside."""


@dataclass(frozen=True)
class Progress:
    """Where training stands after an update."""

    episode: int
    report: UpdateReport
    entropy_weight: float
    dev: DevScore | None
    """Set when the dev queries were looked at now."""
    improved: bool
    """Whether that was the best look so far."""


class Trainer:
    """Trains one policy. Everything that decides the next update is in ``save``'s file, so a killed run can go on.

    Raises ConfigError when the exact gradient is asked for without the action mask, where there is none.
    """

    def __init__(self, train: GraphTensors, dev: GraphTensors, config: LearningConfig, dim: int) -> None:
        if config.estimator == "exact" and not train.use_mask:
            raise ConfigError("`estimator` exact needs the action mask: turn `mask` on, or use `estimator` reinforce")
        seed_everything(config.seed)
        self.train_graph = train.with_loss_aversion(config.loss_aversion)
        self.dev_graph = dev
        self.config = config
        self.policy = Policy(
            dim, train.features.shape[-1], config.policy, config.hidden, config.observe, train.tree.n_actions
        )
        self.policy.standardise(train.features)
        hidden = members(config.hide)
        self.policy.hide([place for place, name in enumerate(train.feature_names) if name in hidden])
        self.optimizer = AdamW(self.policy.parameters(), config.lr, config.weight_decay)
        self.generator = generator(config.seed, "training")
        self._hard_weights = _curriculum(train, config.hard_threshold, config.hard_ratio)
        self.episode = 0
        self.best_score = float("-inf")
        self.best_episode = 0
        self.best_weights = copy.deepcopy(self.policy.state_dict())

    def run(self, on_progress: Callable[[Progress], None]) -> None:
        """Train to the configured number of episodes; ``on_progress`` hears of every update.

        Raises DivergedError at the first loss, gradient, weight or score that is not finite, naming the episode.

        On one thread: the matrices are small, so that more threads cost more than they bring, several times over on a
        busy machine, and a resumed run must round as the first one did.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._run(on_progress)
        except DivergedError as error:
            raise DivergedError(
                f"training diverged after episode {self.episode}: {error}; lower `lr`, or change what else is extreme "
                "among `entropy`, `loss_aversion`, `weight_decay` and `step_penalty`"
            ) from error
        finally:
            torch.set_num_threads(threads)

    def _run(self, on_progress: Callable[[Progress], None]) -> None:
        config = self.config
        while self.episode < config.episodes:
            left = 1.0 - self.episode / config.episodes
            entropy_weight = config.entropy * (FINAL_ENTROPY + (1.0 - FINAL_ENTROPY) * left)
            self.optimizer.lr = config.lr * (FINAL_LR + (1.0 - FINAL_LR) * left)
            rows = self._draw()
            report = update(self.policy, self.optimizer, self.train_graph, rows, config, entropy_weight, self.generator)
            before, self.episode = self.episode, min(self.episode + config.batch_size, config.episodes)
            due = before // config.eval_every != self.episode // config.eval_every or self.episode == config.episodes
            dev = self.evaluate() if due else None
            improved = dev is not None and dev.score > self.best_score
            if dev is not None and improved:
                self.best_score = dev.score
                self.best_episode = self.episode
                self.best_weights = copy.deepcopy(self.policy.state_dict())
            on_progress(Progress(self.episode, report, entropy_weight, dev, improved))

    def evaluate(self) -> DevScore:
        """Play the greedy policy on every dev query."""
        graph = self.dev_graph
        ends, steps = greedy_episodes(self.policy, graph)
        everyone = torch.arange(graph.size)
        paid = graph.mean(graph.end_gain[everyone, ends] - graph.rules.step_penalty * steps)
        score = DevScore(paid, graph.mean(graph.found[everyone, ends]))
        check_finite({"return on the dev queries": score.score})
        return score

    @property
    def best_dev_score(self) -> float | None:
        """The best score on the dev queries; None before the first look at them."""
        return self.best_score if self.best_episode else None

    def best_policy(self) -> Policy:
        """A copy of the policy that did best on the dev queries."""
        best = copy.deepcopy(self.policy)
        best.load_state_dict(self.best_weights)
        return best

    def save(self, path: Path, seal: Mapping[str, Any] | None = None) -> None:
        """Write everything that training goes on from. seal: what else has to be as it is now, as JSON values."""
        content = {
            "episode": self.episode,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "best_score": self.best_score,
            "best_episode": self.best_episode,
            "best_weights": self.best_weights,
            "seal": json.dumps(dict(seal or {})),
        }
        save_torch(path, content)

    def restore(self, path: Path) -> dict[str, Any]:
        """Go on from a saved state; return what it was sealed with.

        Raises CheckpointError when the file is damaged or of another shape.
        """
        content = load_torch(path)
        try:
            self.policy.load_state_dict(content["policy"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.generator.set_state(content["generator"])
            self.best_score = content["best_score"]
            self.best_episode = content["best_episode"]
            self.best_weights = content["best_weights"]
            self.episode = content["episode"]
            return dict(json.loads(content.get("seal", "{}")))
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: cannot be resumed from ({error}); start a new run") from error

    def _draw(self) -> torch.Tensor:
        """Queries for a batch; without a curriculum, every collection is drawn from as often."""
        config = self.config
        grouped = config.estimator == "reinforce" and config.baseline == "leave_one_out"
        repeats = config.rollouts if grouped else 1
        hard = config.curriculum and self.episode >= config.warm_up
        weights = self._hard_weights if hard else self.train_graph.weights
        count = config.batch_size // repeats
        rows = torch.multinomial(weights.cpu(), count, replacement=True, generator=self.generator)
        return rows.to(self.train_graph.device).repeat_interleave(repeats)


def _curriculum(graph: GraphTensors, threshold: float, ratio: float) -> torch.Tensor:
    """Weights (n,) under which ``ratio`` of the queries drawn are hard: one plain search gains less than threshold."""
    hard = graph.single_gain < threshold
    share = float(graph.weights[hard].sum())
    if not 0.0 < share < 1.0:
        return graph.weights
    return graph.weights * torch.where(hard, ratio / share, (1.0 - ratio) / (1.0 - share))


@torch.no_grad()
def greedy_episodes(policy: Policy, graph: GraphTensors) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable action at every step, for every query: end states (n,) and steps taken (n,)."""
    episodes = play(policy, graph, torch.arange(graph.size), lambda log_probs: log_probs.argmax(dim=1))
    return episodes.ends, episodes.running.sum(dim=0)


def collapsed(report: UpdateReport) -> bool:
    """Whether nearly every episode plays the same actions, whatever its query."""
    return report.commonest_share >= COLLAPSE_SHARE
