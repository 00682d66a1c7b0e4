"""The service's tools for assistants, by the Model Context Protocol: at ``/mcp`` over HTTP, and over stdio.

Needs the package ``mcp``, the protocol's official SDK.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel, Field

from searchrl import __version__
from searchrl.errors import SearchRLError
from searchrl.search.corpus import DEPTH, Answer, Asked, Found
from searchrl.service import schemas as s
from searchrl.service.service import Budget, Service
from searchrl.service.upload import Refused

PATH = "/mcp"

Query = Annotated[str, Field(min_length=1, max_length=s.MAX_TEXT, description="What to look for, in plain words")]
K = Annotated[int, Field(ge=1, le=DEPTH, description="How many documents, best first")]
CorpusName = Annotated[str | None, Field(description="Which corpus; leave it out for the default one")]
Texts = Annotated[list[s.Text], Field(min_length=1, description="Texts to score")]


class FoundDocument(BaseModel):
    """A document, and the score that the order goes by."""

    id: str
    title: str
    text: str
    score: float


class SearchAnswer(BaseModel):
    """Documents, best first."""

    documents: list[FoundDocument]


class Step(BaseModel):
    """One action of the agent."""

    action: str
    probability: float
    """Of this action, among those that were possible."""
    query: str
    """The query as it stands after the action."""
    found: list[str]
    """Ids of the documents that this step found, if it searched."""


class AgentAnswer(SearchAnswer):
    """Documents, best first, and how the agent came to them."""

    steps: list[Step]
    stopped: Literal["budget_ms", "max_judged"] | None
    """The limit that ended the search early."""


class RelevanceAnswer(BaseModel):
    """How relevant each text is, in [0, 1], in the order of the texts."""

    relevance: list[float]


class Tools:
    """The tools of one service. hosts: names by which it may be called over HTTP; empty for any."""

    def __init__(self, service: Service, hosts: Collection[str] = ()) -> None:
        self._service = service
        self.server = MCPServer("SearchRL", version=__version__)
        for tool in (self.search, self.relevance, *([self.search_agent] if service.agent else [])):
            self.server.add_tool(tool)
        names = [f"[{host}]" if ":" in host else host for host in sorted(hosts)]
        places = [place for name in names for place in (name, f"{name}:*")]
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=bool(places),
            allowed_hosts=places,
            allowed_origins=[f"{scheme}://{place}" for place in places for scheme in ("http", "https")],
        )
        app = self.server.streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, transport_security=security
        )
        self.routes: Sequence[Any] = app.routes
        """For the service's own router: mounted, they would be redirected to, and not answer at ``/mcp`` itself."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """What has to be entered while the service runs."""
        manager: AbstractAsyncContextManager[None] = self.server.session_manager.run()
        return manager

    async def search(self, query: Query, ctx: Context, k: K = 5, corpus: CorpusName = None) -> SearchAnswer:
        """Search the documents of a corpus by meaning, once."""
        with _told_to_the_model():
            await ctx.report_progress(0, 1, "waiting for a turn")
            (answer,) = await self._service.search(corpus or self._service.default(), [Asked(query, k)], None)
            await ctx.report_progress(1, 1, f"{len(answer.keys)} documents")
        return SearchAnswer(documents=_documents(answer.keys))

    async def search_agent(self, query: Query, ctx: Context, k: K = 5, corpus: CorpusName = None) -> AgentAnswer:
        """Let a trained agent search a corpus: it rewrites the query and searches again where that is likely to help.
        Slower than search; the answer says what it did.
        """

        async def judged(documents: int) -> None:
            await ctx.report_progress(documents, None, f"{documents} documents judged")

        with _told_to_the_model():
            await ctx.report_progress(0, None, "waiting for a turn")
            name = corpus or self._service.default()
            (answer,) = await self._service.play(name, [Asked(query, k)], Budget(), judged)
        return AgentAnswer.model_validate(
            {"documents": _documents(answer.keys), "steps": _steps(answer), "stopped": answer.stopped}
        )

    async def relevance(self, query: Query, texts: Texts) -> RelevanceAnswer:
        """Say how relevant each of some texts is for a query."""
        with _told_to_the_model():
            return RelevanceAnswer(relevance=(await self._service.probabilities(query, texts))[1])


@contextmanager
def _told_to_the_model() -> Iterator[None]:
    """What is wrong with a call, as its result; of everything else the SDK tells only the log."""
    try:
        yield
    except (Refused, SearchRLError) as error:
        raise ToolError(str(error)) from error


def _documents(found: Sequence[Found]) -> list[FoundDocument]:
    return [FoundDocument(id=str(one.key_id), title=one.title, text=one.key, score=one.score) for one in found]


def _steps(answer: Answer) -> list[Step]:
    return [
        Step(
            action=step["action"],
            probability=step["probabilities"][step["action"]],
            query=step["query"],
            found=[str(one.key_id) for one in step["keys"] or []],
        )
        for step in answer.steps
    ]
