"""Sections: starting the reformulator, and rewriting queries with the language model."""

from __future__ import annotations

from benchmarks.clock import in_turn, once
from benchmarks.figure import Figure
from benchmarks.session import Session
from searchrl.reformulate.lm import LMReformulator
from searchrl.retrieval.ranking import Ranking


def rewriting(session: Session) -> list[Figure]:
    """One query at a time, 64 sampled tokens, against one greedy line each for all queries of a level together."""
    bench, reference = session.bench, session.naive_lm
    texts = session.queries.texts
    count = min(session.sizes.rewritten, len(texts))
    reformulator, took = once(
        lambda: LMReformulator(
            bench.transformers_lm, bench.encoder, bench.retriever.lexical, bench.dataset.corpus, bench.prompts
        )
    )
    current = bench.retriever.queries(texts[:count])
    found = bench.retriever.search(current)

    def ours(_: int) -> float:
        reformulator.reformulate("narrow", current, current, found)
        return count

    def alone(number: int) -> float:
        one = current.row(number % count)
        last = found.row(number % count)
        reformulator.reformulate("narrow", one, one, Ranking(last.documents, last.scores))
        return 1.0

    def plainly(number: int) -> float:
        reference.reformulate(texts[number % len(texts)])
        return 1.0

    alone(0)
    pace = in_turn(session.sizes.rounds, naive=plainly, alone=alone, ours=ours)
    name = "reformulation"
    return [
        Figure("reformulator initialisation", "share the model that judges", took, "s"),
        Figure(name, "one query", pace["alone"].each, "s", pace["naive"].each),
        Figure(name, f"{count} queries together", pace["ours"].rate(), "queries/s", pace["naive"].rate()),
    ]
