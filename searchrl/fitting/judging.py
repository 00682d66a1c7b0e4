"""Which of two documents is better for a query, by whom, and how sure they are: the preferences to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from searchrl.errors import DataError
from searchrl.evaluation.stages import check_outputs
from searchrl.fitting.preference_lists import held_out, write_pairs
from searchrl.fitting.records import read_sampled
from searchrl.fitting.settings import JudgeDatasetConfig
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.models.loader import ModelLoader, open_models
from searchrl.models.prompts import Prompts, beginning, load_prompts
from searchrl.queries.writing import DOCUMENT_WORDS
from searchrl.reward.registry import ScorerSettings, make_reward
from searchrl.reward.reward_model import RewardModel

CHOICES = ("1", "2")


@dataclass(frozen=True)
class Comparison:
    """Two documents of one query, by their places in a record's ``keys``."""

    record: int
    first: int
    second: int
    side: int
    """1 where the first is the document that the query was written from, -1 where the second is, else 0."""


def judge_dataset(config: JudgeDatasetConfig, say: Callable[[str], None]) -> None:
    """Write which of two documents is better for a query, again and again, as preferences to train on."""
    files = {split: config.output_dir / f"dataset_list_{split}.json" for split in ("train", "test")}
    check_outputs(*(("output_dir", path) for path in files.values()), inputs=[config.query_key_set])
    records = read_sampled(config.query_key_set)
    own = [r["origins"].index("source") if "source" in r["origins"] else None for r in records]
    with closing(open_models(config.lm)) as loader:
        judge = config.judge
        if judge == "auto":
            small = loader.is_small(config.lm.model_name) and config.compare == "source"
            judge = "source" if small else "pairwise"
        asked = comparisons([len(r["keys"]) for r in records], own, config.compare == "source")
        if judge == "source":
            asked = [one for one in asked if one.side]
        if not asked:
            raise DataError(
                f"{config.query_key_set}: no query was written from one of its documents; use another judge"
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
        raise DataError(f"of {len(asked)} pairs none is left to train on: lower min_margin, or test_share")
    for split, path in files.items():
        if kept[split]:
            write_pairs(path, kept[split])
        else:
            path.unlink(missing_ok=True)
    verdicts = [margin * one.side > 0 for one, margin in zip(asked, margins.tolist(), strict=True) if one.side]
    share = f"; prefers the query's own document in {sum(verdicts) / len(verdicts):.0%}" if verdicts else ""
    counts = ", ".join(f"{len(pairs)} in {files[split]}" for split, pairs in kept.items() if pairs)
    say(f"judge {judge}: {len(asked)} pairs{share}; kept {counts}")


def comparisons(keys: Sequence[int], own: Sequence[int | None], own_only: bool) -> list[Comparison]:
    """Every pair of each record's documents; with ``own_only``, pairs with the query's own document where there is one.

    keys: how many documents each record has. own: the place of its own, or None.
    """
    found = []
    for record, (count, place) in enumerate(zip(keys, own, strict=True)):
        for first, second in combinations(range(count), 2):
            if not own_only or place is None or place in (first, second):
                found.append(Comparison(record, first, second, (first == place) - (second == place)))
    return found


def by_scores(reward_model: RewardModel, queries: Sequence[str], pairs: Sequence[tuple[str, str]]) -> FloatArray:
    """Margins, (n,): score of the first document minus that of the second, by a pointwise judge."""
    distinct = list(dict.fromkeys((q, d) for q, pair in zip(queries, pairs, strict=True) for d in pair))
    scores = reward_model.score([q for q, _ in distinct], [d for _, d in distinct])
    at = dict(zip(distinct, scores, strict=True))
    margins = [at[q, first] - at[q, second] for q, (first, second) in zip(queries, pairs, strict=True)]
    return np.array(margins, dtype=np.float32)


def by_comparison(
    lm: LanguageModel, prompts: Prompts, queries: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> FloatArray:
    """Margins, (n,), in [-1, 1]: probability that the first document is the better one, minus that of the second.

    Each pair is asked about in both orders and averaged: models prefer a place (Wang et al. 2023, "Large language
    models are not fair evaluators").
    """
    asked = []
    for query, pair in zip(queries, pairs, strict=True):
        one, other = (beginning(document, DOCUMENT_WORDS) for document in pair)
        asked.append(prompts.better.format(query=query, first=one, second=other))
        asked.append(prompts.better.format(query=query, first=other, second=one))
    firsts = np.exp(lm.choice_logprobs(asked, CHOICES)[:, 0]).reshape(-1, 2)
    return np.asarray(firsts[:, 0] - firsts[:, 1], dtype=np.float32)


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
    if judge == "source":
        return np.array(sides, dtype=np.float32)
    if judge == "pairwise":
        return by_comparison(loader.language_model(config.lm.model_name, "chat"), load_prompts(), queries, pairs)
    scorer: Any = judge
    return by_scores(make_reward(config.lm.model_name, ScorerSettings(scorer), loader), queries, pairs)
