"""An OpenEnv environment: ``app = make_app(SearchTasks("pydocs"))``, to be served by uvicorn.

An action names a tool and its argument; the observation is what the tool says, with ``reward`` and ``done``. A call
that cannot be made costs its step and says why. It serves ``/ws``, ``/reset`` and so on: give it a port of its own.
"""

from __future__ import annotations

import uuid
from typing import Any, Literal

from searchrl.connect.search_tools import SearchTasks
from searchrl.extras import needs

with needs("openenv"):
    from openenv.core.env_server import create_app
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, ConcurrencyConfig, Observation, State
    from pydantic import Field


class SearchAction(Action):
    """A call of one tool."""

    tool: Literal["search", "narrow", "broaden", "submit"] = "search"
    query: str = Field(default="", description="What to search for, with `search`.")
    ids: list[str] = Field(default_factory=list, description="Ids of the best documents, best first, with `submit`.")


class SearchObservation(Observation):
    """What the environment says."""

    text: str = ""


class SearchEnvironment(Environment):
    """One session; its models are shared. An episode ends by ``submit``, or one call after the last search."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, tasks: SearchTasks) -> None:
        super().__init__()
        self._tasks, self._tools = tasks, tasks()
        self._state = State(episode_id=None, step_count=0)
        self._done = True

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, query_id: str | None = None, **_: Any
    ) -> SearchObservation:
        """Begin the task of a query, or of one drawn by ``seed``."""
        text = self._tools.reset(query_id, seed)
        self._state = State(episode_id=episode_id or str(uuid.uuid4()), step_count=0)
        self._done = False
        return SearchObservation(text=text)

    def step(self, action: SearchAction, timeout_s: float | None = None, **_: Any) -> SearchObservation:
        """Call a tool. Raises RuntimeError before the first reset."""
        if self._state.episode_id is None:
            raise RuntimeError("there is no episode yet: call reset first")
        if self._done:
            return SearchObservation(text="the episode is over: call reset", done=True, reward=0.0)
        arguments: dict[str, list[Any]] = {"search": [action.query], "submit": [action.ids]}
        try:
            text = getattr(self._tools, action.tool)(*arguments.get(action.tool, []))
        except ValueError as error:
            text = f"error: {error}"
        self._state.step_count += 1
        submitted = action.tool == "submit" and not text.startswith("error: ")
        self._done = submitted or self._state.step_count > self._tasks.max_calls
        reward = self._tools.get_reward() if submitted else 0.0
        return SearchObservation(text=text, done=self._done, reward=reward)

    @property
    def state(self) -> State:
        """The episode's name and how many calls were made."""
        return self._state


def make_app(tasks: SearchTasks, *, sessions: int = 64, session_timeout: float = 600.0) -> Any:
    """The FastAPI app. sessions: at once; session_timeout: seconds after which a silent one gives its place back."""
    return create_app(
        lambda: SearchEnvironment(tasks),
        SearchAction,
        SearchObservation,
        env_name="searchrl",
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=sessions, session_timeout=session_timeout),
    )
