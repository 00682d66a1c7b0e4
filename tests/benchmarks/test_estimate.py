from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import estimate as module
from benchmarks.estimate import Rates, Workload, estimate, workload
from benchmarks.session import QUICK, Session
from benchmarks.workload import Pairs, Played
from searchrl.experiment.parts import Workbench

RATES = Rates(
    libraries=2.0,
    data=1.0,
    name_models=0.5,
    load_models=8.0,
    documents=10.0,
    indexes=0.25,
    queries=50.0,
    load_graph=0.001,
    tokens=400.0,
    episodes=2000.0,
    tables=3.0,
)
LOAD = Workload(documents=100, queries=200, pairs=50, tokens=4_000, episodes=10_000)


def test_an_estimate_is_work_by_rate_and_warm_leaves_out_what_is_stored() -> None:
    cold, warm = estimate(RATES, LOAD, cold=True), estimate(RATES, LOAD, cold=False)
    assert cold == {
        "libraries": 2.0,
        "data": 1.0,
        "models and their libraries": 8.5,
        "encoding the corpus": 10.0,
        "indexes": 0.25,
        "playing the search graphs": 4.0,
        "judging": 10.0,
        "training": 5.0,
        "evaluation and tables": 3.0,
        "total": 43.75,
    }
    assert list(warm) == list(cold)
    stored = {"encoding the corpus": 0.0, "judging": 0.0, "playing the search graphs": 0.2}
    stored |= {"models and their libraries": 0.5, "total": 11.95}
    assert warm == pytest.approx(cold | stored)


def tokens_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document is ten tokens, a query one."""

    def work_of(session: Session, pairs: Pairs) -> tuple[int, float]:
        return 10 * len({document for _, document in pairs}) + len(pairs), 0.0

    monkeypatch.setattr(module, "work_of", work_of)


def test_all_queries_played_is_counted_not_guessed(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens_without_a_model(monkeypatch)
    session = Session(bench, QUICK)
    asked = [(text, "same") for queries in session.played.values() for text in queries.texts]
    graphs = {split: range(len(queries)) for split, queries in session.played.items()}
    load = workload(session, Played(graphs, [asked], 1.0, 1.0))
    assert (load.documents, load.queries, load.episodes) == (len(bench.dataset.corpus), len(asked), 10_000)
    assert (load.pairs, load.tokens) == (len(asked), 10 + len(asked))


@pytest.mark.parametrize(("shared", "factor"), [(False, 4.0), (True, None)])
def test_more_queries_than_played_are_extrapolated_documents_that_queries_share_less(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, shared: bool, factor: float | None
) -> None:
    tokens_without_a_model(monkeypatch)
    everything = sum(len(bench.queries(split)) for split in ("train", "dev"))
    session = Session(bench, replace(QUICK, queries=everything // 4))
    texts = [text for queries in session.played.values() for text in queries.texts]
    assert len(texts) == everything / 4
    asked = [(text, "same" if shared else f"document of {text}") for text in texts]
    graphs = {split: range(len(queries)) for split, queries in session.played.items()}
    load = workload(session, Played(graphs, [asked], 1.0, 1.0))
    assert load.queries == everything
    assert load.pairs == 4 * len(asked)
    if factor:
        assert load.tokens == factor * 11 * len(asked)
    else:
        assert 10 + len(asked) < load.tokens < 2 * (10 + len(asked))
