"""What the commands print about models, data, reward model, headroom and results, and while a policy is trained."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from searchrl.agent import strategies
from searchrl.agent.checkpoint import PolicyCheckpoint
from searchrl.agent.policy import Policy
from searchrl.agent.trainer import Progress, Trainer, collapsed
from searchrl.command import held_interrupt
from searchrl.config import GameConfig
from searchrl.data.dataset import Split
from searchrl.env.graph import RewardRules, SearchGraph
from searchrl.env.tree import action_names
from searchrl.evaluation.measures import reward_quality
from searchrl.evaluation.text_table import number, text_table
from searchrl.experiment.callbacks import Callback, Listener
from searchrl.experiment.evaluate import compare_on
from searchrl.experiment.parts import Models, reward_rules, reward_source
from searchrl.experiment.prepare import Collection, PreparedCollection
from searchrl.progress import progress_bar
from searchrl.reward.gain import Judgments

if TYPE_CHECKING:
    from searchrl.experiment.recorder import Recorder  # which loads TensorBoard

logger = logging.getLogger(__name__)


def models(opened: Models) -> str:
    """Where models compute and in which numeric format, and why."""
    lines = [
        f"device: {opened.device.device} ({opened.device.reason})",
        f"encoder: {opened.encoder.name} in {opened.encoder.dtype}",
        *(f"language model that {does}: {lm.description}" for does, lm in opened.language_models.items()),
    ]
    return "\n".join(lines)


def dataset(collection: Collection) -> str:
    """Sizes, and what a reader of the results must know about the data."""
    data = collection.dataset
    sizes = ", ".join(f"{len(queries)} {split}" for split, queries in data.splits.items())
    lines = [f"dataset: {data.name}, {len(data.corpus)} documents; queries: {sizes}"]
    if collection.generated:
        counts = ", ".join(f"{len(queries)} {split}" for split, queries in collection.generated.items())
        what = "train queries and generated ones" if collection.mixed else "generated queries"
        lines.append(f"  {what}: {counts}; relevant is what they were written from ({collection.bank})")
        return "\n".join(lines)
    return "\n".join(lines + [f"  note: {note}" for note in data.notes])


def reward_model(part: PreparedCollection) -> str:
    """How well the reward model agrees with people, where there is one and there are people's judgments."""
    graph, queries = part.graphs["train"], part.collection.queries("train")
    who = part.collection.judged_by("train")
    if not graph.pool.shape[1]:
        return f"judge: {who} pay the reward; no reward model is used"
    if not queries.judged:
        return "judge: no human judgments to compare the reward model with"
    grades = Judgments(queries, part.collection.dataset.corpus).grades(np.asarray(graph.pool))
    return f"judge against {who} (train): {reward_quality(np.asarray(graph.pool_scores), grades)}"


def headroom(collection: Collection, graphs: Mapping[Split, SearchGraph], game: GameConfig) -> str:
    """Before training: what single pass, the fixed strategies and hindsight earn, by each source of gains."""
    rows = []
    for split, graph in graphs.items():
        for source in graph.gains:
            if source == "reward_list" and reward_source(game) != "reward_list":
                continue
            gains = graph.state_gains(source)
            everyone = np.arange(len(graph))
            best = strategies.best_fixed(graph, replace(reward_rules(game), source=source))
            single = gains[everyone, strategies.single_pass(graph)].mean()
            oracle = gains[everyone, strategies.oracle(graph, RewardRules(source, step_penalty=0.0))].mean()
            heuristic = gains[everyone, strategies.heuristic(graph)].mean()
            cells = [single, heuristic, gains[:, best].mean(), oracle, oracle - single]
            name = f"{split}, by {collection.judged_by(split) if source == 'qrels' else 'the reward model'}"
            rows.append([name, *(number(float(c)) for c in cells), strategies.describe(graph.tree, best)])
    columns = ["single_pass", "heuristic", "best_fixed", "oracle", "oracle - single", "best_fixed is"]
    return text_table(["headroom (nDCG@10)", *columns], rows)


def final(part: PreparedCollection, policy: Policy, best_fixed: Sequence[int], seed: int) -> str:
    """The table on dev queries after training."""
    return f"dev queries:\n{compare_on(part, 'dev', policy, best_fixed, seed).summary_text()}"


class Printer(Listener):
    """Prints what an experiment says."""

    show_progress = True

    def on_models(self, opened: Models) -> None:
        """Device, formats, language models."""
        print(models(opened))

    def on_collection(self, collection: Collection) -> None:
        """Sizes and notes."""
        print(dataset(collection))

    def on_prepared(self, part: PreparedCollection) -> None:
        """How good the reward model is, and what there is to learn."""
        print(reward_model(part))
        print(headroom(part.collection, part.graphs, part.settings))

    def say(self, text: str) -> None:
        """A line."""
        print(text)

    def callbacks(self, recorder: Recorder) -> Sequence[Callback]:
        """A bar, news from the dev queries, and Ctrl-C."""
        return [TrainingPrinter(recorder)]


class TrainingPrinter(Callback):
    """Shows a bar and the best looks at the dev queries, warns of collapse, and stops on Ctrl-C between two updates."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._opened = ExitStack()
        self._warned = False

    def on_start(self, trainer: Trainer, identity: PolicyCheckpoint) -> None:
        """Open the bar where training starts, and hold Ctrl-C back from now on."""
        start, total = trainer.episode, trainer.config.episodes
        if start:
            print(f"resumed at episode {start}")
        self._bar = progress_bar(total, "train", "episode", initial=start)
        self._opened.callback(self._bar.close)
        self._interrupted = self._opened.enter_context(held_interrupt())

    def on_update(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(progress.episode - self._bar.n)
        if progress.improved and progress.dev is not None:
            dev = progress.dev
            line = f"episode {progress.episode}: dev return {dev.score:.4f}, nDCG@10 {dev.gain:.4f} (best so far)"
            self._bar.write(line, sys.stdout)
        self._warn_of_collapse(progress)
        if self._interrupted():  # here what is saved is whole
            raise KeyboardInterrupt(self._recorder.save_state())

    def close(self) -> None:
        """Close the bar, and let Ctrl-C through again."""
        self._opened.close()

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
            action_names(report.commonest),
        )
