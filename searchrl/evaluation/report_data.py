"""What the report shows beside the table: each query's episode, texts stored once a document, and training curves."""

from __future__ import annotations

import filecmp
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchrl.agent.run_dir import RunDir, read_metrics
from searchrl.data.dataset import Corpus, QuerySet
from searchrl.env.graph import SearchGraph
from searchrl.env.tree import ROOT, Action, Tree, kind
from searchrl.errors import CheckpointError
from searchrl.evaluation.comparison import BINS, ComparisonTable, MethodResult, difficulty_bins
from searchrl.files import load_json
from searchrl.retrieval.ranking import DOCUMENT, IntArray

logger = logging.getLogger(__name__)

TOP = 10
WORDS = 20
TEXT_LENGTH = 200
TITLE_LENGTH = 150
QUERY_LENGTH = 1_000
MISSED = 5


def explorer_data(
    table: ComparisonTable, graph: SearchGraph, queries: QuerySet, corpus: Corpus, agent: MethodResult, single: str
) -> dict[str, Any]:
    """Everything the explorer reads, as JSON values; documents are numbered as they first appear.

    Its size is bounded: the top 10 of every ranking, the first 20 words of every document, 1,000 characters a query.
    single: the method that losses are measured against.
    """
    documents = _Documents(corpus)
    explorer = _Episodes(table, graph, queries, agent, documents)
    index = [method.name for method in table.methods]
    episodes = [explorer.record(i) for i in range(len(queries))]
    scores = next(method.metrics[table.measure] for method in table.methods if method.name == single)
    bins = difficulty_bins(scores)
    for record, which in zip(episodes, bins, strict=True):
        record["bin"] = BINS[int(which)]
    return {
        "measure": table.measure,
        "methods": index,
        "agent": index.index(agent.name),
        "single": index.index(single),
        "actions": [action.name.lower() for action in Action],
        "judged": queries.judged,
        "documents": documents.shown,
        "queries": episodes,
    }


class _Documents:
    """Numbers documents as they come; ``shown`` holds [id, title, first words] of each once."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.shown: list[list[str]] = []
        self._number: dict[int, int] = {}

    def numbers(self, ranking: IntArray) -> list[int]:
        """The numbers of a ranking's top documents."""
        return [self.number(int(document)) for document in ranking[:TOP] if document >= 0]

    def number(self, document: int) -> int:
        """The number of one document of the corpus."""
        if document not in self._number:
            self._number[document] = len(self.shown)
            corpus = self.corpus
            title, text = corpus.titles[document], corpus.texts[document]
            self.shown.append([corpus.ids[document], shorten(title, TITLE_LENGTH), first_words(text)])
        return self._number[document]


class _Episodes:
    """Makes the record of each query."""

    def __init__(
        self,
        table: ComparisonTable,
        graph: SearchGraph,
        queries: QuerySet,
        agent: MethodResult,
        documents: _Documents,
    ) -> None:
        self.table = table
        self.graph = graph
        self.queries = queries
        self.documents = documents
        self.ends = end_states(graph.tree, agent.actions)
        source = "qrels" if queries.judged else "reward"
        self.gains = graph.state_gains(source) if source in graph.gains else None

    def record(self, i: int) -> dict[str, Any]:
        """One query: scores and actions of every method, the agent's steps, and what people judged."""
        methods = self.table.methods
        query = self.queries.ids[i]  # a document of that id is never retrieved for it
        grades = {d: g for d, g in self.queries.qrels.get(query, {}).items() if g > 0 and d != query}
        steps = self._steps(i)
        slot = int(self.graph.tree.end_slot[self.ends[i]])
        final = self.graph.final[i, slot] if slot >= 0 else np.empty(0, dtype=DOCUMENT)
        numbers = self.documents.numbers(final)
        found = {self.documents.shown[number][0] for number in numbers}
        position = self.documents.corpus.position
        missed = sorted((d for d in grades if d not in found and d in position), key=lambda d: (-grades[d], d))[:MISSED]
        shown = {n for step in steps for n in step.get("ranking", [])} | {*numbers}
        shown |= {self.documents.number(position[d]) for d in missed}
        return {
            "id": query,
            "text": shorten(self.queries.texts[i], QUERY_LENGTH),
            "scores": [round(float(method.metrics[self.table.measure][i]), 6) for method in methods],
            "actions": [[int(kind(action)) for action in method.actions[i]] for method in methods],
            "steps": steps,
            "final": numbers,
            "missed": [self.documents.number(position[d]) for d in missed],
            "relevant": len(grades),
            "grades": {
                str(number): grades[doc_id]
                for number in sorted(shown)
                if (doc_id := self.documents.shown[number][0]) in grades
            },
        }

    def _steps(self, i: int) -> list[dict[str, Any]]:
        """The episode, a dict a step: action, current query where it is new, what it found, its gain so far."""
        graph, tree = self.graph, self.graph.tree
        steps: list[dict[str, Any]] = []
        for node in tree.path(int(tree.state[self.ends[i]]))[1:]:
            state = tree.states[node]
            assert state.action is not None
            step: dict[str, Any] = {"action": int(state.action)}
            if state.action != Action.SEARCH:
                step["text"] = shorten(graph.texts[tree.query_slot[node]][i], QUERY_LENGTH)
                for name in ("drift", "lexical_share"):
                    if name in graph.feature_names:
                        step[name] = round(float(graph.features[i, node, graph.feature_names.index(name)]), 3)
            if state.searched:
                slot = int(tree.search_slot[node])
                step["ranking"] = self.documents.numbers(graph.searched[i, slot])
                if self.gains is not None:
                    step["gain"] = round(float(self.gains[i, node]), 6)
            steps.append(step)
        return steps


def first_words(text: str) -> str:
    """The first 20 words, on one line."""
    words = text[: TEXT_LENGTH * 4].split()
    return shorten(" ".join(words[:WORDS]) + (" …" if len(words) > WORDS else ""), TEXT_LENGTH)


def shorten(text: str, length: int) -> str:
    """The beginning of a text, with an ellipsis where something is left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def end_states(tree: Tree, actions: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """The state in which each of n episodes ended, (n,), from its actions; TERMINATE leads nowhere."""
    ends = []
    for episode in actions:
        node = ROOT
        for action in episode:
            following = int(tree.children[node, action])
            node = following if following >= 0 else node
        ends.append(node)
    return np.array(ends, dtype=np.int64)


def visits(tree: Tree, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Episodes that came by each state: (states,)."""
    counts = np.bincount(ends, minlength=len(tree))
    for node in range(len(tree) - 1, ROOT, -1):  # children come after their parents
        counts[tree.states[node].parent] += counts[node]
    return np.asarray(counts, dtype=np.int64)


@dataclass(frozen=True)
class Curves:
    """What a training run noted at each look at the dev queries.

    series: name as in ``metrics.jsonl`` (``actions.narrow`` for what is nested) -> (episode, value) pairs.
    """

    run: str
    series: Mapping[str, list[tuple[float, float]]]


def find_run(checkpoint: Path, runs_dir: Path) -> RunDir | None:
    """The run that wrote a checkpoint: the folder it lies in, or the one in ``runs_dir`` that holds the same file.

    Copies are known by their content, so that another run's curves are never taken.
    """
    with suppress(OSError):
        own = RunDir(checkpoint.resolve().parent.parent)
        if own.checkpoints == checkpoint.resolve().parent and own.metrics.is_file():
            return own
        for copy in sorted(runs_dir.glob(f"*/checkpoints/{checkpoint.name}")):
            run = RunDir(copy.parent.parent)
            if run.metrics.is_file() and filecmp.cmp(checkpoint, copy, shallow=False):
                return run
    return None


def read_curves(run: RunDir) -> Curves | None:
    """Read ``metrics.jsonl`` up to the first line that a kill cut off; times are left out, being other every time.

    None, after a logged warning, where it is damaged.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    try:
        lines = read_metrics(run).splitlines()
    except (OSError, CheckpointError) as error:
        logger.warning("No curves: %s", error)
        return None
    for line in lines:
        try:
            values = load_json(line)
            episode = float(values.pop("episode"))
        except (ValueError, KeyError, TypeError, AttributeError):
            break
        values.pop("time", None)
        for name, value in _flat(values).items():
            series.setdefault(name, []).append((episode, value))
    return Curves(run.path.name, series)


def _flat(values: Mapping[str, object]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": number for inner, number in _flat(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found
