"""The environment with an agent of your own: one that searches, narrows once if the ranking is uncertain, and stops.

python examples/own_agent.py
"""

from __future__ import annotations

import sys

import gymnasium
import numpy as np

import searchrl  # noqa: F401  # registers the environment

SEARCH, NARROW, BROADEN, TERMINATE = range(4)
EPISODES = 20


def act(seen: dict[str, np.ndarray], names: list[str], searches: int) -> int:
    """What to do next. ``seen["mask"]``: what is allowed. ``seen["features"]``: what the last ranking looked like."""
    if seen["mask"][SEARCH]:
        return SEARCH
    gap = seen["features"][names.index("level_gap")]  # how far the first document is ahead of the second
    return NARROW if searches == 1 and gap < 0.2 else TERMINATE


def main(collection: str) -> None:
    """Play some episodes and print the mean return: nDCG@10, less a little for each step."""
    env = gymnasium.make("searchrl/Search-v0", dataset=collection, split="dev")
    names = list(env.unwrapped.game.feature_names)
    returns = []
    for episode in range(EPISODES):
        seen, _ = env.reset(seed=episode)
        total, searches, over = 0.0, 0, False
        while not over:
            action = act(seen, names, searches)
            searches += action == SEARCH
            seen, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    print(f"mean return of {EPISODES} episodes: {np.mean(returns):.3f}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "pydocs")
