"""The four actions; their ids are fixed."""

from __future__ import annotations

from enum import IntEnum


class Action(IntEnum):
    """What the agent can do at a step."""

    SEARCH = 0
    NARROW = 1
    BROADEN = 2
    TERMINATE = 3


N_ACTIONS = len(Action)
