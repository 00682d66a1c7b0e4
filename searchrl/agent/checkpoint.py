"""Policies on disk: weights and what they mean, where a policy comes from, and its model card.

A ``.pt`` file is ``torch.save`` of tensors and one JSON string, read with ``weights_only=True``: it holds no code. The
card says what a policy learned from, what it wants, what it did. Source: Mitchell et al. (2019), "Model cards for model
reporting"; its header is the Hugging Face hub's.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from searchrl import __version__
from searchrl.agent.policy import Policy
from searchrl.config import ObservedName, PolicyName
from searchrl.env.tree import N_ACTIONS, action_names
from searchrl.errors import CheckpointError, DataError, reason
from searchrl.files import shipped, write_bytes
from searchrl.threads import LOADING

FORMAT = "searchrl-policy"


@dataclass(frozen=True)
class PolicyCheckpoint:
    """A policy and everything that must fit for it to be used."""

    policy: Policy
    config: dict[str, Any]
    """The training command's settings, as ``config_file.to_json`` gives them."""
    dataset: str
    """What it was trained on: one collection, or several joined by commas."""
    encoder: str
    """Fingerprint of the encoder whose embeddings the policy reads."""
    feature_names: Sequence[str]
    episode: int
    dev_score: float | None
    best_fixed: Sequence[int]
    """Actions of the fixed sequence that was best on the dev queries."""
    rerank_share: float = 0.0
    """The reward model's share that was best there after a plain search."""
    version: str = __version__
    computed: Mapping[str, Any] = field(default_factory=dict)
    """Processor and numeric formats of the models, as ``Models.computed`` has them; empty before 0.2."""


FACTS = fields(PolicyCheckpoint)[1:]
"""What a file says beside the weights, in its order."""


def save_policy(path: Path, checkpoint: PolicyCheckpoint) -> None:
    """Write a checkpoint whole or not at all."""
    policy = checkpoint.policy
    meta = {
        "format": FORMAT,
        "kind": policy.kind,
        "dim": policy.dim,
        "hidden": policy.hidden_size,
        "observe": policy.observe,
        "actions": policy.actions,
        **{fact.name: getattr(checkpoint, fact.name) for fact in FACTS},
    }
    save_torch(path, {"meta": json.dumps(meta, allow_nan=False), "weights": policy.state_dict()})


def load_policy(path: Path | str) -> PolicyCheckpoint:
    """Read a checkpoint. Raises CheckpointError when it is missing, truncated, not finite or something else."""
    path = Path(path)
    content = load_torch(path)
    try:
        meta = Meta.model_validate_json(content["meta"])
        _check_shape(meta, content["weights"])
        with LOADING:  # while transformers loads a model, torch makes weights in that model's format
            policy = Policy(meta.dim, len(meta.feature_names), meta.kind, meta.hidden, meta.observe, meta.actions)
        policy.load_state_dict(content["weights"])
        policy.eval()
        return PolicyCheckpoint(policy, **{fact.name: getattr(meta, fact.name) for fact in FACTS})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        said = f"{'.'.join(map(str, fault['loc'])) or 'its description'}: {fault['msg']}"
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        said = reason(error)
    raise CheckpointError(f"{path}: not a policy that SearchRL wrote ({said}); train one with train.py")


class Meta(BaseModel):
    """What a checkpoint says beside the weights."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    format: Literal["searchrl-policy"]
    kind: PolicyName
    dim: Annotated[int, Field(ge=1, le=1 << 20)]
    hidden: Annotated[int, Field(ge=1, le=1 << 16)]
    observe: ObservedName
    actions: Annotated[int, Field(ge=N_ACTIONS, le=64)] = N_ACTIONS
    config: dict[str, Any]
    dataset: str
    encoder: str
    feature_names: Annotated[tuple[str, ...], Field(min_length=1, max_length=1 << 16)]
    episode: Annotated[int, Field(ge=0)]
    dev_score: float | None
    best_fixed: tuple[Annotated[int, Field(ge=0, lt=64)], ...]
    rerank_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    version: str = __version__
    computed: dict[str, Any] = {}


def _check_shape(meta: Meta, weights: Any) -> None:
    """Compare what is said with the weights that are there, before a network of that size is made."""
    shape = weights["action_head.weight"].shape
    if tuple(shape) != (meta.actions, meta.hidden + len(meta.feature_names)):
        raise ValueError(f"weights of shape {tuple(shape)} do not fit {meta.hidden} units")


def save_torch(path: Path, content: dict[str, Any]) -> None:
    """``torch.save`` to a temporary name, then rename. Raises OutputError when the place cannot be written,
    CheckpointError where a number is none: such a checkpoint is worth nothing and looks like one that is.
    """
    if place := not_finite(content):
        raise CheckpointError(f"{path}: not written, because {place} holds numbers that are not finite")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getvalue())


def load_torch(path: Path) -> dict[str, Any]:
    """``torch.load`` of tensors and plain values only. Raises CheckpointError when that is not what the file holds."""
    if not path.exists() or path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint; train one with train.py, or name another with `checkpoint`")
    try:
        file = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():  # by the CRC-32 of every part, which torch.load does not look at
                raise ValueError(f"{damaged} is not what was written")
        file.seek(0)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes on a damaged or foreign file
        what = f"truncated, or not a checkpoint ({reason(error)[:120]})"
        raise CheckpointError(f"{path}: {what}; train one with train.py") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a checkpoint that SearchRL wrote; train one with train.py")
    if place := not_finite(content):
        raise CheckpointError(f"{path}: {place} holds numbers that are not finite; train one with train.py")
    return content


def not_finite(content: object, place: str = "") -> str:
    """Name the first tensor that holds NaN or an infinity; empty where none does.

    The scale of a feature that a policy does not see is infinite (``Policy.hide``).
    """
    if isinstance(content, torch.Tensor):
        hidden = place.endswith("feature_scale") and not content.isnan().any()
        return "" if hidden or not content.is_floating_point() or content.isfinite().all() else place
    if isinstance(content, Mapping):
        named = {str(key): value for key, value in content.items()}
    elif isinstance(content, (list, tuple)):
        named = {str(i): value for i, value in enumerate(content)}
    else:
        return ""
    return next(filter(None, (not_finite(v, f"{place}.{k}" if place else k) for k, v in named.items())), "")


AUTO = "auto"
HUB = "hf://"
HUB_FILE = "policy.pt"
OWN = Path("checkpoints/policy_final.pt")
SHIPPED = ("pydocs", "transfer")
"""Policies that come with SearchRL, by name."""
TIMEOUT = 10.0
"""Seconds that the hub may take to answer."""


def find_policy(name: str) -> Path:
    """The file of a policy: ``auto``, a name of ``SHIPPED``, ``hf://USER/REPO`` or a path, which need not exist.

    Raises CheckpointError when the hub does not have it or cannot be reached and no earlier copy is here.
    """
    if name == AUTO:
        return OWN if OWN.exists() else shipped_policy(SHIPPED[0])
    if name in SHIPPED and not Path(name).exists():
        return shipped_policy(name)
    if not name.startswith(HUB):
        return Path(name)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name.removeprefix(HUB), HUB_FILE, etag_timeout=TIMEOUT))
    except Exception as error:  # no network, no such repository, a bad name: the hub's library has a type for each
        raise CheckpointError(
            f"{name}: {HUB_FILE} cannot be had from the hub ({reason(error)}); check the name, or give a policy's file"
        ) from error


def shipped_policy(name: str) -> Path:
    """The file of a policy that comes with SearchRL."""
    return shipped(f"{name}.pt")


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
        "episodes": f"at most {game['max_steps']} steps, {game['step_penalty']} taken off for each, "
        f"{game.get('judge_penalty', 0.0)} for each document judged",
        "best fixed sequence": action_names(checkpoint.best_fixed),
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
