"""From documents to a reward model fitted to them: queries, candidates, preferences, LoRA; each stage is a command.

``fit`` trains from Python, on preferences in memory.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from searchrl.fitting.in_memory import fit as fit

__all__ = ["fit"]


def __getattr__(name: str) -> Any:
    if name != "fit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from searchrl.fitting.in_memory import fit

    return fit
