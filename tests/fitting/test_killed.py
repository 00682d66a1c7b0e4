"""Every stage, killed by SIGKILL half-way and started again, writes what an uninterrupted one does, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

from searchrl.data.dataset import Dataset
from tests.command import files
from tests.mortal import run

DOCUMENTS = 16
CPU = "--device cpu"
RECS = "data/filtered_query_recs.json"
TABLES = "--relevance-json data/relevance_records_embed.json --source-csv data/df.csv --output"
FIT = f"{CPU} --batch-size 4 --gradient-accumulation-steps 1 --save-steps 3 --evaluation-steps 4 --learning-rate 0.01"

STAGES = {
    "process_data": "--dataset-name docs --output-dir data",
    "make_query_recs": f"--input-csv data/df.csv --output data/query_recs.json --model-name LM {CPU}",
    "filter_query_recs": f"--input data/query_recs.json --output {RECS}",
    "get_top_relevant_keys_embed": f"--queries-json {RECS} --keys-csv data/df.csv --k-key 8 --reward-model HEAD {CPU} "
    "--output data/relevance_records_embed.json",
    "sample_dpo_batch": f"{TABLES} data/sampled_query_key_set.json",
    "judge_dataset": f"--query-key-set data/sampled_query_key_set.json --output-dir data --judge likelihood "
    f"--model-name LM {CPU}",
    "sample_advanced_dpo_batch": f"{TABLES} data/adpo_sampled_query_key_set.json",
    "make_query_and_less_relevant_keys_recs": f"--input-csv data/df.csv --output data/keys.json --keys generate "
    f"--n-key-generation 3 --queries-json {RECS} --model-name LM {CPU}",
    "make_query_dpo_pairs": f"--input-csv data/df.csv --output data/pairs.json --variant 1 --model-name LM {CPU}",
    "train_lora": f"--dataset-list-train data/dataset_list_train.json --output-dir pairs --model-name LM {FIT}",
    "train_adpo_lora": f"--dataset-list-train data/adpo_sampled_query_key_set.json --output-dir orders "
    f"--model-name HEAD {FIT}",
}
"""In the order in which they read one another's files."""


def written(folder: Path) -> dict[str, bytes]:
    """What stays, without what a kill may leave under hidden names, and what tells of a day: curves, times, memory."""
    kept = {}
    for name, content in files(folder).items():
        if name.endswith("metrics.json"):
            told = json.loads(content)
            kept[name] = json.dumps([told[key] for key in ("before", "after", "updates", "lists")]).encode()
        elif not any(part.startswith((".", "tensorboard", "checkpoint-")) for part in Path(name).parts):
            kept[name] = content
    return kept


def test_killed_half_way_and_started_again(tmp_path: Path, small_dataset: Dataset, tiny_lm: Path, head: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        (folder / "docs").mkdir(parents=True)
        for number in range(DOCUMENTS):
            (folder / "docs" / f"{number:02}.txt").write_text(small_dataset.corpus.full_text(number))
    for name, flags in STAGES.items():
        arguments = [name, *flags.replace("LM", str(tiny_lm)).replace("HEAD", str(head)).split()]
        moments = run("fit", arguments, whole)
        assert moments, name
        run("fit", arguments, killed, dies_at=moments // 2 + 1)
        run("fit", arguments, killed)
        one, other = written(whole), written(killed)
        assert one.keys() == other.keys(), name
        assert [file for file in one if one[file] != other[file]] == [], name
