"""Candidates: for each query the documents closest to it, which of them are compared, and which is the better one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from searchrl.data.dataset import Corpus
from searchrl.device import choose_device, rng
from searchrl.errors import DataError
from searchrl.evaluation.stages import check_outputs, score_pairs, search
from searchrl.fitting.documents import read_documents
from searchrl.fitting.records import (
    RankedKeys,
    held_out,
    read_query_recs,
    read_relevance,
    read_sampled,
    write_pairs,
    write_records,
    write_relevance,
)
from searchrl.fitting.settings import (
    JudgeDatasetConfig,
    SampleAdvancedDpoBatchConfig,
    SampleDpoBatchConfig,
    TopRelevantKeysConfig,
)
from searchrl.models.language_model import FloatArray, LanguageModel
from searchrl.models.loader import ModelLoader, open_models
from searchrl.models.prompts import Prompts, beginning, fill, load_prompts
from searchrl.queries.writing import DOCUMENT_WORDS, QueryRec
from searchrl.retrieval.dense import build_dense_index
from searchrl.retrieval.ranking import DOCUMENT, NO_DOCUMENT, Ranking
from searchrl.reward.registry import ScorerSettings, make_reward
from searchrl.reward.reward_model import RewardModel, checked_scores

Item = TypeVar("Item")

TRIES = 20
"""Draws for each row wanted, before it is accepted that nearly all rows are taken."""


def find_candidates(config: TopRelevantKeysConfig, say: Callable[[str], None]) -> None:
    """Write for each query the documents closest to it."""
    check_outputs(("output", config.output), inputs=[config.queries_json, config.keys_csv])
    similarity = choose_device(config.similarity_device)
    corpus = read_documents(config.keys_csv, config.key_column)
    recs = read_query_recs(config.queries_json, len(corpus))
    with closing(ModelLoader(config.serving, device=config.compute.device, cache=config.compute.cache)) as loader:
        ranking = _by_embedding(config, corpus, recs, loader, similarity.device)
        if config.reward_model is not None:
            ranking = _by_reward_model(config, corpus, recs, ranking, loader)
    write_relevance(config.output, recs, ranking)
    found = list(zip(recs, ranking.documents.tolist(), strict=True))
    where = [keys.index(rec.df_id) for rec, keys in found if rec.df_id in keys]
    first = sum(place == 0 for place in where)
    say(
        f"{len(recs)} queries, {ranking.documents.shape[1]} documents each: {config.output}; the document a query was "
        f"written from is found for {len(where)}, first for {first}"
    )


def sample_for_judging(config: SampleDpoBatchConfig, say: Callable[[str], None]) -> None:
    """Write for each query its own document, some that were retrieved, and some at random."""
    corpus, ranked = _read(config)
    records = []
    for one in ranked:
        random = rng(config.ranked.random_seed, "sample_dpo_batch", one.query_id, one.rec.query)
        own = [] if one.rec.df_id is None else [one.rec.df_id]
        retrieved = draw(random, [key for key in one.key_ids if key not in own], config.n_retrieved)
        others = draw_others(random, len(corpus), config.n_random, {*own, *one.key_ids})
        keys = [*own, *retrieved, *others]
        origins = ["source"] * len(own) + ["retrieved"] * len(retrieved) + ["random"] * len(others)
        if len(keys) > 1:
            rec = {"query_id": one.query_id, **one.rec.record()}
            records.append({**rec, "key_ids": keys, "keys": [corpus.full_text(k) for k in keys], "origins": origins})
    if not records:
        raise DataError(f"{config.ranked.relevance_json}: no query has two documents to compare")
    write_records(config.output, records)
    say(f"{len(records)} of {len(ranked)} queries with {sum(len(r['keys']) for r in records)} keys: {config.output}")


def sample_orders(config: SampleAdvancedDpoBatchConfig, say: Callable[[str], None]) -> None:
    """Write for each query its own document and others of falling relevance."""
    corpus, ranked = _read(config)
    records = []
    for one in ranked:
        own = one.rec.df_id
        if own is None:
            continue
        random = rng(config.ranked.random_seed, "sample_advanced_dpo_batch", one.query_id, one.rec.query)
        sampled = ladder([key for key in one.key_ids if key != own], config.n_sampled_keys - 1)
        sampled += draw_others(random, len(corpus), 1, {own, *one.key_ids})
        if sampled:
            levels = list(range(len(sampled)))[::-1] if config.order else [0] * len(sampled)
            records.append(
                {
                    "query_id": one.query_id,
                    **one.rec.record(),
                    "correspond_key_ids": [own],
                    "correspond_keys": [corpus.full_text(own)],
                    "sampled_key_ids": sampled,
                    "sampled_keys": [corpus.full_text(key) for key in sampled],
                    "sampled_levels": levels,
                }
            )
    if not records:
        raise DataError(
            f"{config.ranked.relevance_json}: no query with a document of its own (df_id) and another to compare"
        )
    write_records(config.output, records)
    say(f"{len(records)} of {len(ranked)} queries with {config.n_sampled_keys} keys beside their own: {config.output}")


def _read(config: SampleDpoBatchConfig | SampleAdvancedDpoBatchConfig) -> tuple[Corpus, list[RankedKeys]]:
    where = config.ranked
    check_outputs(("output", config.output), inputs=[where.relevance_json, where.source_csv])
    corpus = read_documents(where.source_csv, where.source_column)
    return corpus, read_relevance(where.relevance_json, len(corpus))


def draw(random: np.random.Generator, items: Sequence[Item], count: int) -> list[Item]:
    """At most so many items, in the order they had."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in sorted(random.choice(len(items), size=count, replace=False))]


def draw_others(random: np.random.Generator, rows: int, count: int, taken: Collection[int]) -> list[int]:
    """At most so many row numbers below ``rows`` that are not taken; fewer where few are free."""
    tried = random.integers(rows, size=TRIES * count).tolist() if rows else []
    return [row for row in dict.fromkeys(tried) if row not in taken][:count]


def ladder(items: Sequence[Item], count: int) -> list[Item]:
    """So many of a ranking's items, from the first to the last, at places that grow ever further apart.

    A ranking tells its first few from its middle better than its middle from its end.
    """
    if count >= len(items) or count < 2:
        return list(items[:count])
    places = np.geomspace(1, len(items), count).round().astype(int) - 1
    for i in range(1, count):
        places[i] = max(places[i], places[i - 1] + 1)
    return [items[place] for place in places]


def _by_embedding(
    config: TopRelevantKeysConfig, corpus: Corpus, recs: Sequence[QueryRec], loader: ModelLoader, device: str
) -> Ranking:
    encoder = loader.encoder(config.model_name)
    if config.batch_tokens and loader.engine != "http":
        from searchrl.models.encoder import Encoder
        from searchrl.models.folders import DEFAULT_ENCODER

        encoder = Encoder(config.model_name or DEFAULT_ENCODER, loader.device.device, token_budget=config.batch_tokens)
    index = build_dense_index(corpus, encoder, loader.cache, show_progress=True, resumable=True)
    vectors = encoder.encode(
        [rec.query for rec in recs], kind="query", show_progress=True, description="encode queries"
    )
    nothing = np.full(len(recs), NO_DOCUMENT, dtype=DOCUMENT)
    return search(index, vectors, min(config.k_key, len(corpus)), nothing, device)


def _by_reward_model(
    config: TopRelevantKeysConfig, corpus: Corpus, recs: Sequence[QueryRec], ranking: Ranking, loader: ModelLoader
) -> Ranking:
    reward_model = make_reward(config.reward_model, ScorerSettings(config.scorer), loader)
    queries = [rec.query for rec in recs]
    scores = score_pairs(reward_model, corpus, queries, ranking.documents, config.request_batch_size)
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")
    return Ranking(np.take_along_axis(ranking.documents, order, 1), np.take_along_axis(scores, order, 1))


CHOICES = ("1", "2")


@dataclass(frozen=True)
class Comparison:
    """Two documents of one query, by their places in the record's ``keys``."""

    record: dict[str, Any]
    first: int
    second: int
    side: int
    """1 where the first is the document that the query was written from, -1 where the second is, else 0."""

    @property
    def keys(self) -> tuple[str, str]:
        """Both texts."""
        return self.record["keys"][self.first], self.record["keys"][self.second]

    def preference(self, margin: float) -> dict[str, Any]:
        """What is written about it. margin: above 0 where the first is better."""
        record = self.record
        chosen, rejected = (self.first, self.second) if margin > 0 else (self.second, self.first)
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


def judge_dataset(config: JudgeDatasetConfig, say: Callable[[str], None]) -> None:
    """Write which of two documents is better for a query, again and again, as preferences to train on."""
    files = {split: config.output_dir / f"dataset_list_{split}.json" for split in ("train", "test")}
    check_outputs(*(("output_dir", path) for path in files.values()), inputs=[config.query_key_set])
    records = read_sampled(config.query_key_set)
    with closing(open_models(config.lm)) as loader:
        judge = config.judge
        if judge == "auto":
            small = loader.is_small(config.lm.model_name) and config.compare == "source"
            judge = "source" if small else "pairwise"
        asked = comparisons(records, config.compare == "source")
        if judge == "source":
            asked = [one for one in asked if one.side]
        if not asked:
            raise DataError(
                f"{config.query_key_set}: no query was written from one of its documents; use another judge"
            )
        margins = _margins(judge, config.lm.model_name, asked, loader).tolist()
    kept: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for one, margin in zip(asked, margins, strict=True):
        if abs(margin) > config.min_margin and (margin * one.side >= 0 or not config.agree_with_source):
            about = "query" if one.record.get("df_id") is None else "df_id"
            test = held_out(f"{about} {one.record[about]}", config.seed, config.test_share)
            kept["test" if test else "train"].append(one.preference(margin))
    if not kept["train"]:
        raise DataError(f"of {len(asked)} pairs none is left to train on: lower min_margin, or test_share")
    for split, path in files.items():
        if kept[split]:
            write_pairs(path, kept[split])
        else:
            path.unlink(missing_ok=True)
    verdicts = [margin * one.side > 0 for one, margin in zip(asked, margins, strict=True) if one.side]
    share = f"; prefers the query's own document in {sum(verdicts) / len(verdicts):.0%}" if verdicts else ""
    counts = ", ".join(f"{len(pairs)} in {files[split]}" for split, pairs in kept.items() if pairs)
    say(f"judge {judge}: {len(asked)} pairs{share}; kept {counts}")


def comparisons(records: Sequence[dict[str, Any]], own_only: bool) -> list[Comparison]:
    """Every pair of each record's documents; with ``own_only``, pairs with the query's own where there is one."""
    found = []
    for record in records:
        own = record["origins"].index("source") if "source" in record["origins"] else None
        for first, second in combinations(range(len(record["keys"])), 2):
            if not own_only or own is None or own in (first, second):
                found.append(Comparison(record, first, second, (first == own) - (second == own)))
    return found


def scores_of(reward_model: RewardModel, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """The score of every (query, document), each scored once, all in one call."""
    distinct = list(dict.fromkeys(pairs))
    scores = checked_scores(reward_model, [query for query, _ in distinct], [document for _, document in distinct])
    return dict(zip(distinct, scores.tolist(), strict=True))


def by_scores(reward_model: RewardModel, queries: Sequence[str], pairs: Sequence[tuple[str, str]]) -> FloatArray:
    """Margins, (n,): score of the first document minus that of the second, by a pointwise judge."""
    at = scores_of(reward_model, ((q, d) for q, pair in zip(queries, pairs, strict=True) for d in pair))
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
        asked.append(fill(prompts.better, query=query, first=one, second=other))
        asked.append(fill(prompts.better, query=query, first=other, second=one))
    firsts = np.exp(lm.choice_logprobs(asked, CHOICES)[:, 0]).reshape(-1, 2)
    return np.asarray(firsts[:, 0] - firsts[:, 1], dtype=np.float32)


def _margins(judge: str, model: str | None, asked: Sequence[Comparison], loader: ModelLoader) -> FloatArray:
    """How much better the first of each two documents is than the second, (n,)."""
    if judge == "source":
        return np.array([one.side for one in asked], dtype=np.float32)
    queries, pairs = [one.record["query"] for one in asked], [one.keys for one in asked]
    if judge == "pairwise":
        return by_comparison(loader.language_model(model, "chat"), load_prompts(), queries, pairs)
    scorer: Any = judge
    return by_scores(make_reward(model, ScorerSettings(scorer), loader), queries, pairs)
