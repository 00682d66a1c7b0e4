"""A taskset for verifiers: a task a query, the search tools as an MCP server, nDCG@10 of what was submitted as reward.

``vf-eval searchrl.connect.verifiers`` evaluates a model on it; ``task.tools.dataset`` names the collection.
"""

from __future__ import annotations

from searchrl.connect.search_tools import INSTRUCTIONS, SearchTasks, SearchTools, judged_gain
from searchrl.data.dataset import Split
from searchrl.data.load import load_dataset
from searchrl.errors import DataError
from searchrl.extras import needs

with needs("verifiers"):
    import verifiers.v1 as vf

__all__ = ["SearchTaskset"]


class SearchState(vf.State):
    """What the tools and the reward share."""

    submitted: list[str] = []  # noqa: RUF012 - pydantic copies it


class SearchData(vf.TaskData):
    """One query."""

    query_id: str
    judgments: dict[str, int]
    """Document id -> grade."""


class SearchToolsetConfig(vf.ToolsetConfig):
    """Which collection."""

    dataset: str = "pydocs"
    split: Split = "train"
    device: str = "auto"


class SearchToolset(vf.Toolset[SearchToolsetConfig, SearchState]):
    """The tools of one rollout; models are loaded at the first call."""

    TOOL_PREFIX = None
    _tools: SearchTools | None = None
    _query_id: str | None = None

    async def setup_task(self, task: SearchData) -> None:
        """Take note of the query."""
        self._query_id = task.query_id

    @vf.tool
    def search(self, query: str) -> str:
        """Search the collection for a query in your own words. Gives id, title and beginning of the best documents."""
        return self._opened().search(query)

    @vf.tool
    def narrow(self) -> str:
        """Search again for what the documents found last do not say yet."""
        return self._opened().narrow()

    @vf.tool
    def broaden(self) -> str:
        """Search again for more like the documents found last."""
        return self._opened().broaden()

    @vf.tool
    def submit(self, ids: list[str]) -> str:
        """Give the answer: ids of the documents that answer the question, the best first; ten at most count."""
        said = self._opened().submit(ids)
        self.state.submitted = list(ids)
        return said

    def _opened(self) -> SearchTools:
        if self._tools is None:
            config = self.config
            self._tools = SearchTasks(config.dataset, config.split, device=config.device)()
            self._tools.reset(self._query_id)
        return self._tools


class SearchTaskConfig(vf.TaskConfig):
    """The tools."""

    tools: SearchToolsetConfig = SearchToolsetConfig()


class SearchTask(vf.Task[SearchData, SearchState, SearchTaskConfig]):
    """One query, to be searched for with the tools."""

    @classmethod
    def toolsets(cls, config: SearchTaskConfig) -> list[vf.Toolset]:
        """The search tools."""
        return [SearchToolset(config.tools)]

    @vf.reward
    async def ndcg(self, trace: vf.Trace) -> float:
        """nDCG@10 of what was submitted; 0 where nothing was."""
        return judged_gain(getattr(trace.state, "submitted", []), self.data.judgments)


class SearchTasksetConfig(vf.TasksetConfig):
    """Where the tasks come from."""

    task: SearchTaskConfig = SearchTaskConfig()


class SearchTaskset(vf.Taskset[SearchTask, SearchTasksetConfig]):
    """A task for each judged query of a split."""

    def load(self) -> list[SearchTask]:
        """The tasks, in the order of the split. Raises DataError where there is no such split."""
        config = self.config.task
        dataset = load_dataset(config.tools.dataset)
        if config.tools.split not in dataset.splits:
            raise DataError(f"dataset {dataset.name!r} has no {config.tools.split} queries with judgments")
        queries = dataset.splits[config.tools.split]
        return [
            SearchTask(
                SearchData(
                    id=query_id,
                    query_id=query_id,
                    prompt=f"{INSTRUCTIONS}\n\nQuestion: {text}",
                    judgments=dict(queries.qrels.get(query_id, {})),
                ),
                config,
            )
            for query_id, text in zip(queries.ids, queries.texts, strict=True)
        ]


if __name__ == "__main__":
    SearchToolset.run()
