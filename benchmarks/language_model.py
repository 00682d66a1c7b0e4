"""Sections: starting the reward model, scoring documents with it; starting the reformulator, rewriting queries."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Figure, in_turn, matrix_product, once
from benchmarks.session import Pairs, Played, Session
from searchrl.device import cpu_speeds
from searchrl.reformulate.lm import LMReformulator
from searchrl.retrieval.ranking import Ranking
from searchrl.reward.lm import LMReward

TEN = 10


def reward_model_start(session: Session) -> list[Figure]:
    """Naming the judge, which every command does, and its first answer, for which the language model is loaded."""
    _, named = once(lambda: session.judge.fingerprint)
    with session.fresh_judge() as judge:
        _, loaded = once(lambda: judge.score(["what loads a model"], ["a first question"]))
    session.rates |= {"name judge": named, "load judge": loaded}
    lm = session.bench.transformers_lm
    name = "reward model initialisation"
    return [
        Figure(name, f"name {lm.name}, judging by {session.judge.method}", named, "s"),
        Figure(name, f"load it as {session.lm_format}, its library included, and answer once", loaded, "s"),
    ]


def scoring(session: Session, played: Played) -> list[Figure]:
    """One document at a time against ten for one query, and against whole documents with all queries that met them.

    The large matrix products take their turn in every round, so that the share of their rate is of the same minutes.
    """
    sizes = session.sizes
    samples = _samples(session, played)
    asked = session.queries.texts[0]
    ten = [pair for call in played.calls for pair in call if pair[0] == asked][:TEN]
    work = [work_of(session, sample) for sample in samples]
    reference = session.naive_lm
    there = [name for name, speed in cpu_speeds().items() if speed] if session.bench.device.device == "cpu" else []
    formats = list(dict.fromkeys(["float32", session.lm_format, *there]))
    found = {name: matrix_product(name, session.bench.device.device) for name in formats}
    products = {name: product for name, product in found.items() if product is not None}

    def plainly(number: int) -> float:
        chosen = [samples[number][i % len(samples[number])] for i in range(sizes.judged_naively)]
        for query, document in chosen:
            reference.judge(query, _cut(session.judge, document))
        return len(chosen)

    def ten_for_one(_: int) -> float:
        with session.fresh_judge() as judge:
            score(judge, ten)
        return 1.0

    def graph(number: int) -> float:
        with session.fresh_judge() as judge:
            score(judge, samples[number])
        return len(samples[number])

    reference.judge("a", "b")
    pace = in_turn(sizes.rounds, naive=plainly, ten=ten_for_one, graph=graph, **products)
    pairs, plain = pace["graph"].rate(), pace["naive"].rate()
    tokens = pace["graph"].rate([n for n, _ in work])
    operations = pace["graph"].rate([n for _, n in work])
    session.rates["tokens judged"] = tokens
    name, own = "scoring", session.lm_format
    figures = [
        *(Figure("matrix product", f"large, {n}", 1e-9 * pace[n].rate(), "GFLOP/s") for n in products),
        Figure(name, f"{len(ten)} documents for one query", pace["ten"].each, "s", len(ten) / plain),
        Figure(name, f"{len(samples[0])} pairs of a graph, each a document and a query", pairs, "documents/s", plain),
        Figure(name, "useful tokens", tokens, "tokens/s"),
        Figure(name, "useful operations", 1e-9 * operations, "GFLOP/s"),
    ]
    if own in products:
        share = 100 * operations / pace[own].rate()
        figures.append(Figure(name, f"useful operations, share of the {own} matrix product", share, "%"))
    best = max(products, key=lambda name: pace[name].rate())
    if best != own:
        share = 100 * operations / pace[best].rate()
        figures.append(Figure(name, f"useful operations, share of the fastest ({best}) product", share, "%"))
    return figures


def work_of(session: Session, pairs: Pairs) -> tuple[int, float]:
    """Useful tokens and operations that judging these pairs in one call takes."""
    judge, counter = session.counting_judge()
    score(judge, pairs)
    return counter.tokens, counter.operations


def score(judge: LMReward, pairs: Pairs) -> None:
    """Have pairs judged in one call."""
    judge.score([query for query, _ in pairs], [document for _, document in pairs])


def _samples(session: Session, played: Played) -> list[Pairs]:
    lengths = np.array([len(group[0][1]) + sum(len(query) for query, _ in group) for group in played.groups])
    drawn = session.samples(lengths, session.sizes.judged, "judge")
    return [[pair for i in sample for pair in played.groups[int(i)]] for sample in drawn]


def _cut(judge: LMReward, document: str) -> str:
    """The same words that ours reads."""
    return " ".join(document.split()[: judge.max_document_words])


def rewriting(session: Session) -> list[Figure]:
    """One query at a time, 64 sampled tokens, against one greedy line each for all queries of a level together."""
    bench, reference = session.bench, session.naive_lm
    texts = session.queries.texts
    count = min(session.sizes.rewritten, len(texts))
    reformulator, took = once(
        lambda: LMReformulator(bench.transformers_lm, bench.retriever, bench.dataset.corpus, bench.prompts)
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
