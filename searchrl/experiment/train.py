"""Training on prepared collections: from search graphs to a policy."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from searchrl.agent import strategies
from searchrl.agent.checkpoint import PolicyCheckpoint, save_policy
from searchrl.agent.policy import Policy
from searchrl.agent.trainer import Progress, Trainer
from searchrl.config import LearningConfig, TrainConfig, sort_settings
from searchrl.config_file import to_json
from searchrl.env.graph import GraphTensors
from searchrl.errors import ConfigError
from searchrl.evaluation.comparison import human_first
from searchrl.experiment.callbacks import Callback
from searchrl.experiment.parts import reward_rules
from searchrl.experiment.prepare import Prepared


@dataclass(frozen=True)
class Trained:
    """A policy after its last episode, and as it was when it did best on the dev queries."""

    final: PolicyCheckpoint
    best: PolicyCheckpoint

    @property
    def policy(self) -> Policy:
        """The policy of the last episode."""
        return self.final.policy

    def save(self, path: Path | str) -> None:
        """Write the policy of the last episode, whole or not at all."""
        save_policy(Path(path), self.final)


def train(
    prepared: Prepared,
    learning: LearningConfig | None = None,
    callbacks: Sequence[Callback] = (),
    recorded: TrainConfig | None = None,
    **settings: Any,
) -> Trained:
    """Train a policy on the train queries, watched on the dev queries.

    learning: how; or ``settings``, fields of ``LearningConfig``. recorded: the command's settings, for the checkpoint.
    The same settings and data give the same weights.
    """
    learning = replace(learning or LearningConfig(), **sort_settings((LearningConfig,), settings)[LearningConfig])
    if not isinstance(prepared, Prepared):
        raise ConfigError(f"`prepared` is {prepared!r:.60}: give what prepare gave")
    game = prepared.settings
    rules = reward_rules(game)
    graph, dev = prepared.graph("train"), prepared.graph("dev")
    trainer = Trainer(GraphTensors(graph, rules, game.mask), GraphTensors(dev, rules, game.mask), learning, graph.dim)
    people = replace(rules, source=human_first(dev, rules.source))
    best_fixed = strategies.best_fixed(dev, people)
    config = recorded or TrainConfig(prepared.data, prepared.models.settings, game, learning)
    # As it was played, on whatever device and engine the policy is used later, in one go or in several.
    output = replace(config.output, overwrite=False, resume=False)
    config = replace(config, game=replace(config.game, reformulator=game.reformulator), output=output)
    identity = PolicyCheckpoint(
        policy=trainer.policy,
        config=to_json(config),
        dataset=prepared.data.label,
        encoder=prepared.models.encoder.fingerprint,
        feature_names=graph.feature_names,
        episode=0,
        dev_score=None,
        best_fixed=graph.tree.actions_to(best_fixed),
        rerank_share=prepared.parts[0].game.rules.trust[strategies.best_share(dev, people.source)],
        computed=prepared.models.computed,
    )
    with ExitStack() as listening:
        for callback in callbacks:
            listening.callback(callback.close)
            callback.on_start(trainer, identity)

        def tell(progress: Progress) -> None:
            for callback in callbacks:
                callback.on_update(progress)

        trainer.run(tell)
        for callback in callbacks:
            callback.on_end()
    score, policy = trainer.best_dev_score, trainer.best_policy()
    best = replace(identity, policy=policy, episode=trainer.best_episode, dev_score=score)
    return Trained(replace(identity, episode=trainer.episode), best)
