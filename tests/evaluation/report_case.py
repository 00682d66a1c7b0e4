"""A report of a game made by hand, over documents and queries that try to break out of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from searchrl.agent import strategies
from searchrl.data.dataset import Corpus, QuerySet
from searchrl.env.graph import RewardRules, SearchGraph
from searchrl.evaluation.comparison import ComparisonTable, method_result
from searchrl.evaluation.report import write_report
from searchrl.reward.gain import Judgments
from tests.toy import toy_graph

N = 30
HOSTILE = [
    "</script><img src=x onerror=document.title='broken'>",
    "<!-- <script> ]]> \u2028\u2029 &lt;b&gt; \ud800",
    "'\" onmouseover=\"document.title='broken'\" \x00\x0b",
    "<svg/onload=document.title='broken'> https://example.org/x",
    "plain " * 40,
]
TEXTS = [f"{HOSTILE[i % 3]} question {i}" for i in range(N)]


def corpus() -> Corpus:
    """Five documents, as the toy graph has."""
    return Corpus([f"d{i}" for i in range(5)], ["", HOSTILE[0], "</title>", "Fourth", "Fifth"], HOSTILE)


def queries(n: int = N) -> QuerySet:
    """Judged queries: the first document is a little relevant, one in three wants the last most."""
    qrels = {f"q{i}": {"d0": 1, "d4": 2 if i % 3 == 0 else 0} for i in range(n)}
    return QuerySet([f"q{i}" for i in range(n)], [TEXTS[i % N] for i in range(n)], qrels)


def graph(n: int = N) -> SearchGraph:
    """The toy game; searches turn the list of documents around, so that they are worth different things."""
    made = toy_graph(n)
    documents = np.stack([np.roll(np.arange(5), slot) for slot in range(made.searched.shape[1])]).astype(np.int32)
    documents = np.tile(documents, (n, 1, 1))
    texts = [[f"{text} {HOSTILE[slot % 4]}" for text in slot_texts] for slot, slot_texts in enumerate(made.texts)]
    judgments = Judgments(queries(n), corpus())
    gains = np.stack([judgments.gain(documents[:, slot], 10) for slot in range(documents.shape[1])], axis=1)
    return replace(
        made,
        searched=documents,
        final=documents,
        texts=[list(queries(n).texts), *texts[1:]],
        gains={"qrels": gains.astype(np.float32)},
    )


def ends(made: SearchGraph) -> np.ndarray[Any, Any]:
    """Where the agent ends: by what kind of query it is, in a different state."""
    nodes = made.tree.searched_nodes
    return nodes[np.arange(len(made)) % 4].astype(np.int64)


def table(made: SearchGraph) -> ComparisonTable:
    """Single pass, best fixed, agent and oracle."""
    wanted, documents = queries(len(made)), corpus()
    nodes = {
        "single_pass": strategies.single_pass(made),
        "best_fixed": strategies.heuristic(made),
        "rl_agent": ends(made),
        "oracle": strategies.oracle(made, RewardRules("qrels", 0.0)),
    }
    return ComparisonTable.build([method_result(name, made, end, wanted, documents) for name, end in nodes.items()])


def write(folder: Path, n: int = N, **changes: Any) -> Path:
    """Write the report of it all."""
    made = graph(n)
    given = {"title": HOSTILE[0], "facts": {HOSTILE[1]: HOSTILE[3]}, "notes": [HOSTILE[2]]} | changes
    return write_report(folder, table(made), made, queries(n), corpus(), **given)
