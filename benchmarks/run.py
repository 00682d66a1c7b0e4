"""The whole benchmark: all sections in their order, the growth of costs, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks import session as sessions
from benchmarks.bench import Bench
from benchmarks.formats import numeric_formats
from benchmarks.growth import Growth, growth_by_documents, growth_by_queries
from benchmarks.language_model import reward_model_start, rewriting, scoring
from benchmarks.learning import environment_steps, graph_building, policy_forward, training
from benchmarks.measure import Figure, describe_machine, load_average, once, startup_seconds
from benchmarks.report import Report, estimate, rates_of, workload
from benchmarks.retrieval import encoding, retriever, search_by_size
from benchmarks.session import Played, Session, Sizes

Step = Callable[[str], None]
"""Hears the name of what is measured next."""

STEPS = 14
"""That are announced, the start of a process included."""


def sizes_of(quick: bool, queries: int, million: bool) -> Sizes:
    """How much is measured: ``queries`` at most; ``million`` also searches that many vectors."""
    sizes = sessions.QUICK if quick else Sizes()
    corpora = (*sizes.corpora, 1_000_000) if million else sizes.corpora
    return replace(sizes, queries=min(sizes.queries, queries), corpora=corpora)


def benchmark(bench: Bench, sizes: Sizes, step: Step, say: Callable[[str], None]) -> Report:
    """Measure everything. ``say`` hears what is measured on; models that cannot be had are said before the work.

    ``step`` hears of each of the ``STEPS`` as it begins.
    """
    from searchrl.cli import describe

    _, data = once(lambda: bench.dataset)
    say(f"device: {bench.device.device} ({bench.device.reason})")
    say(describe.dataset(bench.collection))
    lm = bench.transformers_lm
    say(f"language model: {lm.name}, {lm.choice.dtype} ({lm.choice.reason})")
    load = [load_average()]
    session = Session(bench, sizes)
    step("libraries")
    libraries = startup_seconds()
    figures, played = measure(session, step)
    _, tables = once(lambda: _tables(session, played))
    rates, work = rates_of(session, libraries, data, tables), workload(session, played)
    growths = grow(session, step)
    estimates = {name: estimate(rates, work, cold=name == "cold") for name in ("cold", "warm")}
    machine, load = describe_machine(lm.choice), [*load, load_average()]
    return Report(machine, load, bench.dataset.name, figures, rates, work, estimates, growths)


def measure(session: Session, step: Step) -> tuple[list[Figure], Played]:
    """Everything but growth. ``session.rates`` then holds what the estimate needs."""
    step("retriever")
    figures = retriever(session)
    step("reward model")
    figures += reward_model_start(session)
    step("search graphs")
    played, about = graph_building(session)
    figures += about
    step("encoding")
    figures += encoding(session)
    step("scoring")
    figures += scoring(session, played)
    step("numeric formats")
    figures += numeric_formats(session)
    step("reformulation")
    figures += rewriting(session)
    step("search by size")
    figures += search_by_size(session)
    step("environment")
    figures += environment_steps(session, played)
    step("policy")
    figures += policy_forward(session, played)
    step("training")
    figures += training(session, played)
    return figures, played


def grow(session: Session, step: Step) -> list[Growth]:
    """The growth of costs, after ``measure``."""
    step("growth with queries")
    growths = growth_by_queries(session)
    step("growth with documents")
    return growths + growth_by_documents(session)


def _tables(session: Session, played: Played) -> Mapping[str, object]:
    """What train.py says before and after training: the headroom, and the comparison on dev queries."""
    import torch

    from searchrl.agent import strategies
    from searchrl.agent.policy import Policy
    from searchrl.agent.trainer import greedy_episodes
    from searchrl.cli import describe
    from searchrl.env.graph import GraphTensors, RewardRules
    from searchrl.evaluation.comparison import compare_methods, human_first
    from searchrl.experiment.parts import reward_rules

    bench = session.bench
    split, dev = list(played.graphs.items())[-1]
    headroom = describe.headroom(bench.collection, dict(played.graphs.items()), bench.game_config)
    best = strategies.best_fixed(dev, replace(reward_rules(bench.game_config), source=human_first(dev, "reward")))
    actions = [int(a) for a in dev.tree.actions_to(best)]
    torch.manual_seed(session.seed)
    policy = Policy(dev.dim, dev.features.shape[-1], actions=dev.tree.n_actions)
    nodes, _ = greedy_episodes(policy, GraphTensors(dev, RewardRules("reward")))
    table = compare_methods(
        dev,
        session.played[split],
        bench.game,
        nodes.numpy(),
        actions,
        source=human_first(dev, "reward"),
        seed=session.seed,
    )
    return {"headroom": headroom, "comparison": table.summary_text()}
