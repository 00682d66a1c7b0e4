"""``searchrl fit STAGE``: the stages from documents to a reward model fitted to them, and all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from searchrl.cli import Stages, do_stage
from searchrl.command import run_command
from searchrl.fitting import settings

if TYPE_CHECKING:
    from searchrl.fitting.training import RunFolder

COLUMNS = {"accuracy": "accuracy", "auc": "AUC", "auc_within": "AUC within a query", "margin": "margin"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``searchrl fit``."""
    run_command(lambda given: do_stage("fit", STAGES, given), arguments)


def run_stage(name: str, arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.NAME``."""
    run_command(lambda flags: do_stage("fit", STAGES, [name, *flags]), arguments)


def _stage(name: str) -> Callable[[Any], None]:
    """What does a stage: a function of a module of ``searchrl.fitting``."""
    module, function = name.split(".")

    def do(config: Any) -> None:
        result = getattr(import_module(f"searchrl.fitting.{module}"), function)(config, say)
        if result is not None:
            from searchrl.fitting.training import RunFolder

            whole = isinstance(config, settings.PipelineConfig)
            folder = RunFolder(config.output_dir / "model" if whole else config.output_dir)
            say(report(result, folder, config.lora.merge))

    return do


def say(text: str) -> None:
    """Print what a stage found."""
    print(text, flush=True)


def report(metrics: Mapping[str, Any], folder: RunFolder, merged: bool) -> str:
    """A training run's quality before, during and after; time and memory; how the result is used."""
    from searchrl.evaluation.text_table import text_table
    from searchrl.fitting.convert import how_used

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
        lines.append(f"model: {folder.merged}, used by name: {how_used(folder.merged)}")
    return "\n".join(lines)


def _row(name: str, values: Mapping[str, Any], prefix: str) -> list[str]:
    from searchrl.evaluation.text_table import number

    return [name, *(number(values[f"{prefix}{column}"], ".3f") for column in COLUMNS)]


STAGES: Stages = {
    "pipeline": (settings.PipelineConfig, _stage("pipeline.pipeline")),
    "process_data": (settings.ProcessDataConfig, _stage("documents.process_data")),
    "make_query_recs": (settings.MakeQueryRecsConfig, _stage("writing.make_query_recs")),
    "filter_query_recs": (settings.FilterQueryRecsConfig, _stage("writing.filter_query_recs")),
    "get_top_relevant_keys_embed": (settings.TopRelevantKeysConfig, _stage("candidates.find_candidates")),
    "sample_dpo_batch": (settings.SampleDpoBatchConfig, _stage("candidates.sample_for_judging")),
    "sample_advanced_dpo_batch": (settings.SampleAdvancedDpoBatchConfig, _stage("candidates.sample_orders")),
    "judge_dataset": (settings.JudgeDatasetConfig, _stage("candidates.judge_dataset")),
    "make_query_and_less_relevant_keys_recs": (settings.LessRelevantKeysConfig, _stage("writing.make_key_ladders")),
    "make_query_dpo_pairs": (settings.QueryDpoPairsConfig, _stage("writing.make_query_ladders")),
    "convert": (settings.ConvertConfig, _stage("convert.convert")),
    "train_lora": (settings.TrainLoraConfig, _stage("training.train")),
    "train_adpo_lora": (settings.TrainAdpoLoraConfig, _stage("training.train")),
}
