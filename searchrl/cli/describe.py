"""What the commands print about data, judge, headroom and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from searchrl.agent import strategies
from searchrl.agent.checkpoint import PolicyCheckpoint
from searchrl.agent.trainer import Trainer, greedy_episodes
from searchrl.config import TrainConfig
from searchrl.config_file import to_json
from searchrl.data.dataset import QuerySet, Split
from searchrl.env.batched import GraphTensors
from searchrl.env.graph import SearchGraph
from searchrl.evaluation.comparison import ComparisonTable
from searchrl.evaluation.text_table import number, text_table
from searchrl.experiment.parts import Workbench

SPLITS: tuple[Split, ...] = ("train", "dev")


def models(bench: Workbench) -> str:
    """Where models compute and in which numeric format, and why."""
    lines = [f"device: {bench.device.device} ({bench.device.reason})"]
    lines.append(f"encoder: {bench.encoder.name} in {bench.encoder.dtype}")
    lines += [f"language model that {does}: {lm.description}" for does, lm in bench.language_models.items()]
    return "\n".join(lines)


def dataset(bench: Workbench) -> str:
    """Sizes, and what a reader of the results must know about the data."""
    data = bench.dataset
    sizes = ", ".join(f"{len(queries)} {split}" for split, queries in data.splits.items())
    lines = [f"dataset: {data.name}, {len(data.corpus)} documents; queries: {sizes}"]
    made = [split for split in SPLITS if bench.is_generated(split)]
    if made:
        counts = ", ".join(f"{len(bench.queries(split))} {split}" for split in made)
        lines.append(
            f"  generated queries: {counts}; relevant is what they were written from ({bench.data.query_bank})"
        )
        return "\n".join(lines)
    return "\n".join(lines + [f"  note: {note}" for note in data.notes])


def judge(bench: Workbench, graph: SearchGraph) -> str:
    """How well the reward model agrees with people, where there is one and there are people's judgments."""
    from searchrl.evaluation.reward_quality import reward_quality
    from searchrl.reward.gain import Judgments

    queries = bench.queries("train")
    who = _judgments(bench, "train")
    if not graph.pool.shape[1]:
        return f"judge: {who} pay the reward; no reward model is used"
    if not queries.judged:
        return "judge: no human judgments to compare the reward model with"
    grades = Judgments(queries, bench.dataset.corpus).grades(np.asarray(graph.pool))
    return f"judge against {who} (train): {reward_quality(np.asarray(graph.pool_scores), grades)}"


def _judgments(bench: Workbench, split: str) -> str:
    """Where the judgments of a split are from."""
    return "source documents" if bench.is_generated("dev" if split == "dev" else "train") else "human judgments"


def headroom(bench: Workbench, graphs: Mapping[str, SearchGraph]) -> str:
    """Before training: what single pass, the fixed strategies and hindsight earn, by each source of gains."""
    penalty = bench.game_config.step_penalty
    rows = []
    for split, graph in graphs.items():
        for source in graph.gains:
            if source == "reward_list" and bench.reward_source != "reward_list":
                continue
            gains = graph.state_gains(source)
            everyone = np.arange(len(graph))
            best = strategies.best_fixed(graph, source, penalty)
            single = gains[everyone, strategies.single_pass(graph)].mean()
            oracle = gains[everyone, strategies.oracle(graph, source)].mean()
            heuristic = gains[everyone, strategies.heuristic(graph)].mean()
            cells = [single, heuristic, gains[:, best].mean(), oracle, oracle - single]
            name = f"{split}, by {_judgments(bench, split) if source == 'qrels' else 'the reward model'}"
            rows.append([name, *(number(float(c)) for c in cells), strategies.describe(graph.tree, best)])
    header = [
        "headroom (nDCG@10)",
        "single_pass",
        "heuristic",
        "best_fixed",
        "oracle",
        "oracle - single",
        "best_fixed is",
    ]
    return text_table(header, rows)


def identity(
    config: TrainConfig, bench: Workbench, trainer: Trainer, train: SearchGraph, best_fixed: int
) -> PolicyCheckpoint:
    """What a checkpoint of this run says about itself."""
    return PolicyCheckpoint(
        policy=trainer.policy,
        config=to_json(config),
        dataset=config.data.label,
        encoder=bench.encoder.fingerprint,
        feature_names=train.feature_names,
        episode=0,
        dev_score=None,
        best_fixed=[int(a) for a in train.tree.actions_to(best_fixed)],
        computed=bench.computed,
    )


def final(bench: Workbench, trainer: Trainer, dev: SearchGraph, best_fixed: Sequence[int]) -> str:
    """The table on dev queries after training, by the policy of the last episode."""
    shown = GraphTensors(dev, trainer.dev_graph.rules, trainer.dev_graph.use_mask)
    nodes, _ = greedy_episodes(trainer.policy, shown)
    table = compare(bench, dev, bench.queries("dev"), nodes.numpy(), best_fixed, bench.seed)
    return f"dev queries:\n{table.summary_text()}"


def compare(
    bench: Workbench,
    graph: SearchGraph,
    queries: QuerySet,
    agent: NDArray[np.int64],
    best_fixed: Sequence[int],
    seed: int,
) -> ComparisonTable:
    """All ways to search side by side; see ``methods.compare_methods``."""
    from searchrl.evaluation.methods import compare_methods

    source = human_first(graph, bench)
    corpus = bench.dataset.corpus
    return compare_methods(graph, queries, corpus, bench.retriever, agent, best_fixed, source=source, seed=seed)


def human_first(graph: SearchGraph, bench: Workbench) -> str:
    """The source by which fixed strategies are chosen; see ``methods.human_first``."""
    from searchrl.evaluation import methods

    return methods.human_first(graph, bench.reward_source)
