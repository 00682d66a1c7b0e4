"""``python -m searchrl.preference.judge_dataset``: pick the better of two documents for a query, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError
from searchrl.fitting.stage_config import LanguageModelConfig

if TYPE_CHECKING:
    from searchrl.fitting.judging import Comparison
    from searchrl.models.language_model import FloatArray
    from searchrl.models.loader import ModelLoader

JudgeName = Literal["auto", "pairwise", "likelihood", "graded", "yes_no", "head", "source"]


@dataclass(frozen=True)
class JudgeDatasetConfig:
    """Have a judge pick chosen and rejected documents, and write the preferences to train on."""

    query_key_set: Path
    """sampled_query_key_set.json of sample_dpo_batch."""
    output_dir: Path
    """Gets dataset_list_train.json and dataset_list_test.json."""
    judge: JudgeName = "auto"
    """Who picks. pairwise: the language model is shown both documents, in both orders. likelihood, graded, yes_no: it
    scores each, as where it judges. head: a reward model's score. source: no model; the document that the query was
    written from is better than any other. auto: source below about 1B parameters, else pairwise."""
    compare: Literal["source", "all"] = "source"
    """source: pairs with the query's own document, where it has one. all: every pair, for which --judge source has no
    answer."""
    min_margin: float = 0.0
    """Drop pairs about which the judge is less sure: a difference of probabilities or scores."""
    agree_with_source: bool = False
    """Drop pairs in which the judge prefers another document to the query's own."""
    test_share: float = 0.1
    """Share of documents whose queries go into the test file."""
    seed: int = 42
    """Seeds the division into train and test."""
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.judge == "source" and self.compare == "all":
            raise ConfigError(
                "--judge source says nothing about two documents that a query was not written from: "
                "use --compare source, or another --judge"
            )
        if not 0 <= self.test_share < 1:
            raise ConfigError(f"--test-share {self.test_share}: must be at least 0 and below 1")
        if self.min_margin < 0:
            raise ConfigError(f"--min-margin {self.min_margin}: must be at least 0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.judge_dataset``."""
    run_command(_judge, arguments)


def _judge(arguments: Sequence[str]) -> None:
    run(parse(JudgeDatasetConfig, arguments, "python -m searchrl.preference.judge_dataset"))


def run(config: JudgeDatasetConfig) -> None:
    """Do the stage's work."""
    from searchrl.errors import DataError
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.dataset_list import write_pairs
    from searchrl.fitting.judging import comparisons
    from searchrl.fitting.lists import held_out
    from searchrl.fitting.stage_models import is_small, stage_loader

    files = {split: config.output_dir / f"dataset_list_{split}.json" for split in ("train", "test")}
    check_outputs(*(("--output-dir", path) for path in files.values()), inputs=[config.query_key_set])
    records = _read(config.query_key_set)
    own = [r["origins"].index("source") if "source" in r["origins"] else None for r in records]
    with closing(stage_loader(config.lm)) as loader:
        judge = config.judge
        if judge == "auto":
            small = is_small(config.lm.model_name, loader) and config.compare == "source"
            judge = "source" if small else "pairwise"
        asked = comparisons([len(r["keys"]) for r in records], own, config.compare == "source")
        if judge == "source":
            asked = [one for one in asked if one.side]
        if not asked:
            raise DataError(
                f"{config.query_key_set}: no query was written from one of its documents; use another --judge"
            )
        queries = [records[one.record]["query"] for one in asked]
        pairs = [(records[o.record]["keys"][o.first], records[o.record]["keys"][o.second]) for o in asked]
        margins = _margins(judge, config, queries, pairs, [one.side for one in asked], loader)
    kept: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for one, margin in zip(asked, margins.tolist(), strict=True):
        if abs(margin) > config.min_margin and (margin * one.side >= 0 or not config.agree_with_source):
            record = records[one.record]
            group = f"df_id {record['df_id']}" if record.get("df_id") is not None else f"query {record['query']}"
            split = "test" if held_out(group, config.seed, config.test_share) else "train"
            kept[split].append(_preference(record, one, margin))
    if not kept["train"]:
        raise DataError(f"of {len(asked)} pairs none is left to train on: lower --min-margin, or --test-share")
    for split, path in files.items():
        if kept[split]:
            write_pairs(path, kept[split])
        else:
            path.unlink(missing_ok=True)
    verdicts = [margin * one.side > 0 for one, margin in zip(asked, margins.tolist(), strict=True) if one.side]
    share = f"; prefers the query's own document in {sum(verdicts) / len(verdicts):.0%}" if verdicts else ""
    counts = ", ".join(f"{len(pairs)} in {files[split]}" for split, pairs in kept.items() if pairs)
    say(f"judge {judge}: {len(asked)} pairs{share}; kept {counts}")


def _preference(record: dict[str, Any], one: Comparison, margin: float) -> dict[str, Any]:
    chosen, rejected = (one.first, one.second) if margin > 0 else (one.second, one.first)
    return {
        "query": record["query"],
        "chosen": record["keys"][chosen],
        "rejected": record["keys"][rejected],
        "query_id": record["query_id"],
        "df_id": record.get("df_id"),
        "chosen_sentence_id": record["key_ids"][chosen],
        "rejected_sentence_id": record["key_ids"][rejected],
        "margin": round(abs(margin), 6),
    }


def _margins(
    judge: str,
    config: JudgeDatasetConfig,
    queries: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    sides: Sequence[int],
    loader: ModelLoader,
) -> FloatArray:
    """How much better the first of each two documents is than the second, (n,)."""
    import numpy as np

    from searchrl.fitting.judging import by_comparison, by_scores
    from searchrl.fitting.stage_models import stage_scorer

    if judge == "source":
        return np.array(sides, dtype=np.float32)
    if judge == "pairwise":
        return by_comparison(loader.language_model(config.lm.model_name, "chat"), queries, pairs)
    scorer: Any = judge
    return by_scores(stage_scorer(config.lm.model_name, scorer, loader), queries, pairs)


def _read(path: Path) -> list[dict[str, Any]]:
    """Records with as many ``key_ids`` and ``origins`` as ``keys``, two at least."""
    from searchrl.errors import DataError
    from searchrl.fitting.json_records import checked_texts, read_records, text_field

    records = []
    for place, record in read_records(path):
        keys = checked_texts(record, "keys", place)
        ids, origins = record.get("key_ids"), record.get("origins", ["unknown"] * len(keys))
        if len(keys) < 2 or any(not isinstance(part, list) or len(part) != len(keys) for part in (ids, origins)):
            raise DataError(f"{place}: two 'keys' at least are expected, and as many 'key_ids' and 'origins'")
        query = text_field(record, "query", place)
        records.append({**record, "query": query, "query_id": record.get("query_id", query), "origins": origins})
    return records


if __name__ == "__main__":
    main()
