"""All sections in their order."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.figure import Figure
from benchmarks.growth import Growth, growth_by_documents, growth_by_queries
from benchmarks.judging import reward_model_start, scoring
from benchmarks.playing import environment_steps, graph_building
from benchmarks.retrieval import encoding, retriever, search_by_size
from benchmarks.rewriting import rewriting
from benchmarks.session import Session
from benchmarks.training import policy_forward, training
from benchmarks.workload import Played

Step = Callable[[str], None]
"""Hears the name of what is measured next."""


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


STEPS = 13
"""That are announced, the start of a process included."""
