"""From a folder of documents to a reward model fitted to them: all stages, each done once.

A step whose settings and inputs are as they were, and whose outputs are there as it wrote them, is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchrl.config import LanguageModelConfig
from searchrl.config_file import to_json
from searchrl.errors import DataError
from searchrl.files import file_digest, load_json, user_path, write_text
from searchrl.fitting import candidates, documents, settings, training, writing

NOT_COMPARED = (
    *("device", "cache", "similarity_device", "output", "output_dir", "base_url", "api_key_env", "concurrency"),
    *("request_timeout", "golden", "tensor_parallel_size", "pipeline_parallel_size"),
)
"""Settings of a step that say where and how, not what."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One stage: what it is asked, what it reads and writes."""

    name: str
    config: Any
    run: Callable[[Any, Say], None]
    inputs: Sequence[Path]
    """Files or folders."""
    outputs: Sequence[Path]
    """Files; the last to be written last."""


def pipeline(config: settings.PipelineConfig, say: Say) -> dict[str, Any]:
    """Do what is left to do; returns what the trained model's ``metrics.json`` holds."""
    training.check_installed(config.tracking)  # said now, not after an hour of work
    training.training_device(config.compute.device, config.dtype)
    data = config.output_dir / "data"
    for step in steps(config, data):
        if not do(step, data / "stages", say):
            say(f"{step.name}: done before")
    return training.train(training_of(config), say)


def training_of(config: settings.PipelineConfig) -> settings.TrainLoraConfig:
    """The settings of the last stage, which trains on what the others wrote."""
    data = config.output_dir / "data"
    kind, train, test = settings.TrainLoraConfig, data / "dataset_list_train.json", data / "dataset_list_test.json"
    if config.adpo:
        kind, train = settings.TrainAdpoLoraConfig, data / "adpo_sampled_query_key_set.json"
    held_out = test if not config.adpo and test.exists() else None
    lists = settings.PreferenceDataConfig(train, held_out, test_share=config.test_share, max_train=config.max_train)
    where, same = config.output_dir / "model", (config.lora, config.fitting, config.tracking)
    return kind(where, lists, *same, config.dtype, config.compute, config.overwrite)


def steps(config: settings.PipelineConfig, data: Path) -> list[Step]:
    """The stages before training, in order; ``data`` is where they write."""
    seed, compute = config.fitting.seed, config.compute
    lm = LanguageModelConfig(config.writer, compute=compute, serving=config.serving)
    corpus = user_path(config.corpus)
    table, queries, kept = data / "df.csv", data / "query_recs.json", data / "filtered_query_recs.json"
    relevance, sampled = data / "relevance_records_embed.json", data / "sampled_query_key_set.json"
    ladders = data / "adpo_sampled_query_key_set.json"
    read = settings.ProcessDataConfig(
        config.corpus, data, config.n_sample, text_column=config.text_column, random_seed=seed
    )
    write = settings.MakeQueryRecsConfig(
        settings.DocumentsConfig(table), queries, kinds=config.kinds, per_document=config.per_document, seed=seed, lm=lm
    )
    keep = settings.FilterQueryRecsConfig(queries, kept, config.kinds)
    search = settings.TopRelevantKeysConfig(
        *(kept, table, relevance),
        model_name=config.encoder,
        k_key=config.k_key,
        similarity_device=compute.device,
        compute=compute,
    )
    found = [
        Step("process_data", read, documents.process_data, [corpus] if corpus.exists() else [], [table]),
        Step("make_query_recs", write, writing.make_query_recs, [table], [queries]),
        Step("filter_query_recs", keep, writing.filter_query_recs, [queries], [kept]),
        Step("get_top_relevant_keys_embed", search, candidates.find_candidates, [kept, table], [relevance]),
    ]
    ranked = settings.RankedConfig(relevance, table, random_seed=seed)
    if config.adpo:
        order = settings.SampleAdvancedDpoBatchConfig(ranked, ladders, n_sampled_keys=config.n_sampled_keys)
        last = [Step("sample_advanced_dpo_batch", order, candidates.sample_orders, [relevance, table], [ladders])]
    else:
        sample = settings.SampleDpoBatchConfig(
            ranked, sampled, n_retrieved=config.n_retrieved, n_random=config.n_random
        )
        judge = settings.JudgeDatasetConfig(sampled, data, config.judge, test_share=config.test_share, seed=seed, lm=lm)
        lists = [data / f"dataset_list_{split}.json" for split in ("train", "test")]
        last = [
            Step("sample_dpo_batch", sample, candidates.sample_for_judging, [relevance, table], [sampled]),
            Step("judge_dataset", judge, candidates.judge_dataset, [sampled], lists),
        ]
    return [*found, *last]


def do(step: Step, stamps: Path, say: Say) -> bool:
    """Do a step unless it is done; says whether it had to be. ``stamps``: the folder that remembers."""
    stamp = stamps / f"{step.name}.json"
    wanted = json.loads(json.dumps({"settings": _compared(to_json(step.config)), "inputs": _digests(step.inputs)}))
    if _read(stamp) == {**wanted, "outputs": _digests(step.outputs)}:
        return False
    step.run(step.config, say)
    write_text(stamp, json.dumps({**wanted, "outputs": _digests(step.outputs)}, indent=1) + "\n")
    return True


def _compared(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if name not in NOT_COMPARED}
    return {name: _compared(value) if isinstance(value, dict) else value for name, value in kept.items()}


def _digests(paths: Sequence[Path]) -> list[list[str]]:
    """Name and SHA-256 of every file, those in folders included; an empty one where there is none."""
    found = []
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            try:
                found.append([name, file_digest(file) if file.exists() else ""])
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    return found


def _read(path: Path) -> Any:
    try:
        return load_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
