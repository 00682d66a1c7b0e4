"""What would be judged is known without a judge, and is what a judge is then asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.workload import by_document, play
from searchrl.env.build import GraphSettings, build_graph
from searchrl.env.game import Game
from searchrl.experiment.parts import Workbench
from searchrl.models.language_model import FloatArray


class Lengths:
    """Judges by length."""

    fingerprint = "lengths"
    absolute = True

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        return np.array([len(document) / 1000 for document in documents], dtype=np.float32)


def test_the_notes_are_the_pools_of_the_judged_graph(bench: Workbench) -> None:
    queries = bench.queries("dev").take(4)
    played = play(bench, {"dev": queries})
    rules = bench.game
    judged = build_graph(
        Game(rules.corpus, rules.retriever, rules.reformulator, Lengths(), rules.rules), queries, GraphSettings()
    )
    wanted = {
        (text, bench.dataset.corpus.full_text(int(d)))
        for text, pool in zip(queries.texts, judged.pool, strict=True)
        for d in pool
        if d >= 0
    }
    noted = [pair for call in played.calls for pair in call]
    assert set(noted) == wanted
    assert len(noted) == len(wanted), "each pair is asked about once"
    np.testing.assert_array_equal(played.graphs["dev"].searched, judged.searched)
    assert played.queries == 4
    assert played.seconds > played.loading > 0


def test_groups_are_whole_documents_and_lose_nothing(bench: Workbench) -> None:
    played = play(bench, {"train": bench.queries("train").take(6)})
    assert sorted(p for group in played.groups for p in group) == sorted(p for call in played.calls for p in call)
    assert all(len({document for _, document in group}) == 1 for group in played.groups)
    assert by_document([("a", "x"), ("b", "y"), ("c", "x")]) == [[("a", "x"), ("c", "x")], [("b", "y")]]
