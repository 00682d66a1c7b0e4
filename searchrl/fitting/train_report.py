"""What a training run prints at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from searchrl.evaluation.text_table import number, text_table
from searchrl.fitting.train_folder import TrainFolder

COLUMNS = {"accuracy": "accuracy", "auc": "AUC", "auc_within": "AUC within a query", "margin": "margin"}


def report(metrics: Mapping[str, Any], folder: TrainFolder, merged: bool) -> str:
    """Quality before, during and after; time and memory; how the result is used."""
    rows = []
    if metrics["before"] is not None:
        rows.append(_row("before", metrics["before"], ""))
        rows += [_row(f"update {entry['step']}", entry, "eval_") for entry in metrics["during"]]
        rows.append(_row("after", metrics["after"], ""))
    lines = [text_table(["on held-out queries", *COLUMNS.values()], rows)] if rows else []
    lines.append(
        f"{metrics['lists']} lists, {metrics['updates']} updates of {metrics['trainable_parameters']:,} parameters; "
        f"{metrics['seconds_of_the_last_command']:.0f} s, at most {metrics['peak_memory_gb']:.1f} GB"
    )
    lines.append(f"adapter: {folder.adapter}")
    if merged:
        lines.append(f"model: {folder.merged}, used by name: {_use(folder)}")
    return "\n".join(lines)


def _row(name: str, values: Mapping[str, Any], prefix: str) -> list[str]:
    return [name, *(number(values[f"{prefix}{column}"], ".3f") for column in COLUMNS)]


def _use(folder: TrainFolder) -> str:
    config = json.loads((folder.merged / "config.json").read_text(encoding="utf-8"))
    causal = any(str(kind).endswith("CausalLM") for kind in config.get("architectures") or [])
    return f"--lm {folder.merged}" if causal else f"--reward head --reward-model {folder.merged}"
