"""SearchRL learns how to search: a Gymnasium retrieval environment, a small policy, language-model rewards.

After ``import searchrl``, ``gymnasium.make("searchrl/Search-v0", dataset="pydocs")`` works. ``Search`` and ``Services``
rank and generate texts with reward models; they are imported when first asked for.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import wrapt

# oneDNN keeps a compiled kernel for every shape of input it has met: gigabytes, where no length comes twice. Read
# when torch first computes.
for _capacity in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_capacity, "128")

if TYPE_CHECKING:
    from searchrl.agent.checkpoint import load_policy as load_policy
    from searchrl.data.load import load_dataset as load_dataset
    from searchrl.experiment.evaluate import evaluate as evaluate
    from searchrl.experiment.prepare import prepare as prepare
    from searchrl.experiment.train import train as train
    from searchrl.reward.registry import make_reward as make_reward
    from searchrl.search.api import Search as Search
    from searchrl.search.services import Services as Services

__all__ = ["Search", "Services", "evaluate", "load_dataset", "load_policy", "make_reward", "prepare", "train"]

__version__ = "0.2.0"

_LATER = {
    "Search": "searchrl.search.api",
    "Services": "searchrl.search.services",
    "evaluate": "searchrl.experiment.evaluate",
    "load_dataset": "searchrl.data.load",
    "load_policy": "searchrl.agent.checkpoint",
    "make_reward": "searchrl.reward.registry",
    "prepare": "searchrl.experiment.prepare",
    "train": "searchrl.experiment.train",
}
"""Public names that would slow every ``--help`` if they were imported here."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])


@wrapt.when_imported("gymnasium")
def _register(gymnasium: Any) -> None:
    """Register the environment once Gymnasium is there; importing it here would slow every ``--help``."""
    if "searchrl/Search-v0" not in gymnasium.registry:
        gymnasium.register(
            "searchrl/Search-v0",
            entry_point="searchrl.experiment.prepare:make_env",
            vector_entry_point="searchrl.experiment.prepare:make_vector_env",
            order_enforce=False,
        )
