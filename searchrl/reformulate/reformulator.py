"""Who rewrites the query: the protocol behind relevance feedback, the language model, and both together."""

from __future__ import annotations

from typing import Literal, Protocol

from searchrl.retrieval.ranking import Queries, Ranking

Direction = Literal["narrow", "broaden"]


class Reformulator(Protocol):
    """Turns the current queries of a batch into new ones; it never searches."""

    @property
    def fingerprint(self) -> str:
        """Names method, settings, and the model and prompts behind it."""
        ...

    @property
    def lm_calls(self) -> int:
        """Language model calls that one query costs per reformulation."""
        ...

    def reformulate(self, direction: Direction, original: Queries, current: Queries, last: Ranking) -> Queries:
        """New queries, one for each of the n given.

        ``original`` is what the user asked, ``current`` what was searched last, ``last`` the ranking it gave. A query
        that cannot be rewritten comes back unchanged.
        """
        ...
