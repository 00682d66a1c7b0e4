"""Which scorer a model wants, told from the files in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from searchrl.errors import ModelError
from searchrl.models.loading import GENERATIVE

ScorerKind = Literal["lm", "head", "cross_encoder", "qwen3_reranker"]

QWEN_RERANKER_SIGN = "Judge whether the Document meets the requirements"
"""From the one form that Qwen3-Reranker is asked in; its fine-tuned kin carry it in their chat templates."""


def detect_scorer(name: str, folder: Path) -> ScorerKind:
    """What kind of reward model lies in ``folder``; ``name`` is how the user called it.

    A classifier is a cross-encoder where sentence-transformers left its mark, else a reward head; a causal language
    model is Qwen3-Reranker where name or chat template say so. Raises ModelError on anything else.
    """
    config = _read(name, folder / "config.json")
    listed = config.get("architectures")
    kinds = [str(kind) for kind in listed] if isinstance(listed, list) else []
    if any(kind.endswith(GENERATIVE) for kind in kinds):
        asked = "qwen3-reranker" in f"{name} {folder.name}".lower() or QWEN_RERANKER_SIGN in _chat_template(folder)
        return "qwen3_reranker" if asked else "cross_encoder" if _is_cross_encoder(name, folder, config) else "lm"
    if _is_cross_encoder(name, folder, config):
        return "cross_encoder"
    if any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return "head"
    kind = " or ".join(kinds) or config.get("model_type") or "model of an unknown kind"
    raise ModelError(
        f"{name} is a {kind}, which gives no relevance: give a causal language model, a reward model with a head "
        "(ForSequenceClassification) or a cross-encoder; if it is one of these all the same, say which: scorer=..."
    )


def _is_cross_encoder(name: str, folder: Path, config: dict[str, Any]) -> bool:
    """Whether sentence-transformers says so: in a file of its own, or, before that was written, in ``config.json``."""
    file = folder / "config_sentence_transformers.json"
    if file.exists():
        return bool(_read(name, file).get("model_type") == "CrossEncoder")
    return "sbert_ce_default_activation_function" in config or "sentence_transformers" in config


def _chat_template(folder: Path) -> str:
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        if (folder / file).is_file():
            return (folder / file).read_text(encoding="utf-8", errors="replace")
    return ""


def _read(name: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} cannot be used as a reward model: {file} cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{name} cannot be used as a reward model: {file} is not a JSON object")
    return content
