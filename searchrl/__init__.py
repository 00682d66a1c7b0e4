"""SearchRL learns how to search: a Gymnasium retrieval environment, a small policy, language-model rewards.

After ``import searchrl``, ``gymnasium.make("searchrl/Search-v0", dataset="pydocs")`` works.
"""

from typing import Any

import wrapt

__version__ = "0.1.0"


@wrapt.when_imported("gymnasium")
def _register(gymnasium: Any) -> None:
    """Register the environment once Gymnasium is there; importing it here would slow every ``--help``."""
    if "searchrl/Search-v0" not in gymnasium.registry:
        gymnasium.register("searchrl/Search-v0", entry_point="searchrl.assemble:make_env", order_enforce=False)
