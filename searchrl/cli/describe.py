"""What the commands print about models, data, reward model, headroom and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from searchrl.agent import strategies
from searchrl.agent.policy import Policy
from searchrl.agent.trainer import greedy_episodes
from searchrl.config import GameConfig
from searchrl.data.dataset import Split
from searchrl.env.graph import GraphTensors, RewardRules, SearchGraph
from searchrl.evaluation.comparison import compare_methods, human_first
from searchrl.evaluation.text_table import number, text_table
from searchrl.experiment.collection import Collection
from searchrl.experiment.models import Models
from searchrl.experiment.parts import reward_source
from searchrl.experiment.prepare import PreparedCollection

SPLITS: tuple[Split, ...] = ("train", "dev")


def models(opened: Models) -> str:
    """Where models compute and in which numeric format, and why."""
    lines = [f"device: {opened.device.device} ({opened.device.reason})"]
    lines.append(f"encoder: {opened.encoder.name} in {opened.encoder.dtype}")
    lines += [f"language model that {does}: {lm.description}" for does, lm in opened.language_models.items()]
    return "\n".join(lines)


def dataset(collection: Collection) -> str:
    """Sizes, and what a reader of the results must know about the data."""
    data = collection.dataset
    sizes = ", ".join(f"{len(queries)} {split}" for split, queries in data.splits.items())
    lines = [f"dataset: {data.name}, {len(data.corpus)} documents; queries: {sizes}"]
    if collection.generated:
        counts = ", ".join(f"{len(queries)} {split}" for split, queries in collection.generated.items())
        lines.append(f"  generated queries: {counts}; relevant is what they were written from ({collection.bank})")
        return "\n".join(lines)
    return "\n".join(lines + [f"  note: {note}" for note in data.notes])


def reward_model(part: PreparedCollection) -> str:
    """How well the reward model agrees with people, where there is one and there are people's judgments."""
    from searchrl.evaluation.measures import reward_quality
    from searchrl.reward.gain import Judgments

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
            best = strategies.best_fixed(graph, source, game.step_penalty)
            single = gains[everyone, strategies.single_pass(graph)].mean()
            oracle = gains[everyone, strategies.oracle(graph, source)].mean()
            heuristic = gains[everyone, strategies.heuristic(graph)].mean()
            cells = [single, heuristic, gains[:, best].mean(), oracle, oracle - single]
            name = f"{split}, by {collection.judged_by(split) if source == 'qrels' else 'the reward model'}"
            rows.append([name, *(number(float(c)) for c in cells), strategies.describe(graph.tree, best)])
    columns = ["single_pass", "heuristic", "best_fixed", "oracle", "oracle - single", "best_fixed is"]
    return text_table(["headroom (nDCG@10)", *columns], rows)


def final(part: PreparedCollection, policy: Policy, best_fixed: Sequence[int], seed: int) -> str:
    """The table on dev queries after training."""
    game = part.settings
    dev, queries, source = part.graphs["dev"], part.collection.queries("dev"), reward_source(game)
    ends, _ = greedy_episodes(policy, GraphTensors(dev, RewardRules(source, game.step_penalty), game.mask))
    corpus, retriever = part.collection.dataset.corpus, part.game.retriever
    chosen_by = human_first(dev, source)
    table = compare_methods(dev, queries, corpus, retriever, ends.numpy(), best_fixed, source=chosen_by, seed=seed)
    return f"dev queries:\n{table.summary_text()}"
