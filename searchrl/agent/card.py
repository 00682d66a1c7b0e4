"""A policy's model card: what it learned from, what it wants, what it did. Source: Mitchell et al. (2019), "Model cards
for model reporting"; the header is the Hugging Face hub's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from searchrl.agent.checkpoint import PolicyCheckpoint
from searchrl.env.tree import Action
from searchrl.errors import DataError

REWARDS = {"qrels": "human judgments", "lm": "a language model", "head": "a reward head"}
CARD = """---
library_name: searchrl
license: apache-2.0
tags: [information-retrieval, reinforcement-learning]
---

# {name}

A search policy: in each situation it chooses to search, narrow, broaden or stop.

```sh
python eval.py --checkpoint checkpoints/{name}.pt --dataset COLLECTION
```

| | |
| --- | --- |
{table}
{results}
Features, in order: {features}.

It knows one encoder, one set of actions and the collections above. On another collection compare it with single pass,
as eval.py does, before you rely on it.
"""
SHOWN = ("single_pass", "best_fixed", "rl_agent", "oracle")


def paid_by(config: Mapping[str, Any]) -> str:
    """Say who paid the reward in training. config: a checkpoint's settings."""
    reward = config["game"]["reward"]
    if reward == "qrels" and config["data"].get("query_bank"):
        return "the documents that generated queries were written from"
    return REWARDS[reward]


def in_words(computed: Mapping[str, Any]) -> str:
    """Numeric formats and processor in a line."""
    models = "; ".join(f"{model} {does}" for does, model in computed["models"].items())
    return f"{models}; {computed['processor']}"


def model_card(checkpoint: PolicyCheckpoint, name: str, results: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write the card as Markdown. ``results``: contents of ``results.json`` files that eval.py wrote with this policy.

    Raises DataError where one of them is something else.
    """
    config = checkpoint.config
    models, game, learning = config["models"], config["game"], config["learning"]
    size = sum(weight.numel() for weight in checkpoint.policy.parameters())
    facts = {
        "trained on": f"{checkpoint.dataset} ({'generated' if config['data'].get('query_bank') else 'train'} queries; "
        "dev queries chose the best fixed sequence below)",
        "paid by": paid_by(config),
        "observes": f"{len(checkpoint.feature_names)} named features"
        + (" and embeddings" if checkpoint.policy.observe == "all" else " (no embeddings, no text)"),
        "network": f"{checkpoint.policy.kind}, {size:,} parameters",
        "learning": f"{learning['estimator']} gradient, {checkpoint.episode:,} episodes, batches of "
        f"{learning['batch_size']}, learning rate {learning['lr']}, loss aversion {learning['loss_aversion']}, "
        f"seed {learning['seed']}",
        "retriever": f"{game['retriever']}, encoder {models['encoder']} ({checkpoint.encoder})",
        "reformulator": game["reformulator"],
        "episodes": f"at most {game['max_steps']} steps, {game['step_penalty']} taken off for each",
        "best fixed sequence": " ".join(Action(action).name for action in checkpoint.best_fixed),
        "SearchRL": checkpoint.version,
        **({"computed": in_words(checkpoint.computed)} if checkpoint.computed else {}),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    measured = "\n".join(["", *_results(results), ""]) if results else ""
    return CARD.format(name=name, table=table, results=measured, features=", ".join(checkpoint.feature_names))


def _results(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table with a row for each evaluation; p is the randomisation test against single pass, not corrected."""
    lines: list[str] = []
    for one in results:
        try:
            details, measure = one["details"], one["measure"]
            means = {method: found["metrics"][measure] for method, found in one["methods"].items()}
            test = next(t for t in one["tests"] if (t["method"], t["baseline"]) == ("rl_agent", "single_pass"))
            if not lines:
                shown = " | ".join(SHOWN)
                lines = [f"{measure}; p: randomisation test of rl_agent against single_pass, not corrected.", ""]
                lines += [f"| queries | {shown} | p |", "| --- |" + " --- |" * (len(SHOWN) + 1)]
            row = " | ".join(f"{means[method]:.4f}" for method in SHOWN)
            where = f"{details['dataset']} {details['split']} ({one['queries']})"
            lines.append(f"| {where} | {row} | {test['p_randomisation']:.4f} |")
        except (KeyError, TypeError, StopIteration) as error:
            raise DataError(f"not the results.json of an evaluation by eval.py (no {error})") from error
    return lines
