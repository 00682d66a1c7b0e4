"""``python -m searchrl.preference.get_top_relevant_keys_embed``: for each query the documents closest to it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from searchrl.command import parse, run_command
from searchrl.config import EngineConfig
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus
    from searchrl.fitting.query_recs import QueryRec
    from searchrl.models.loader import ModelLoader
    from searchrl.retrieval.ranking import Ranking

ScorerName = Literal["auto", "yes_no", "graded", "likelihood", "pmi", "head", "cross_encoder", "qwen3_reranker"]
"""As in ``reward/scorers.py``, which is slow to import."""


@dataclass(frozen=True)
class TopRelevantKeysConfig:
    """Find for each query the documents closest to it by embeddings, or by a reward model among these."""

    queries_json: Path
    """filtered_query_recs.json, or any JSON array of objects with a query."""
    keys_csv: Path
    """The documents: df.csv of process_data."""
    output: Path
    """relevance_records_embed.json: query, df_id, and keys, each with key_id (a document's row) and score."""
    key_column: str = "text"
    """Column that holds the text."""
    model_name: str | None = None
    """What embeds: any sentence-transformers model or folder; if not given, all-MiniLM-L6-v2, which is installed with
    SearchRL."""
    k_key: int = 50
    """Documents kept for each query."""
    batch_tokens: int = 0
    """Tokens embedded at a time, padding included; 0: 1,024 on a CPU, 32,768 elsewhere."""
    similarity_device: str = "auto"
    """Where similarities are computed: auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    device: str = "auto"
    """Where models compute; as --similarity-device."""
    reward_model: str | None = None
    """Order the k documents by this reward model instead: preset, hub name or folder."""
    scorer: ScorerName = "auto"
    """What the reward model is; auto: told from its files."""
    request_batch_size: int = 128
    """Pairs that the reward model scores together; what a kill loses at most."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    cache: bool = True
    """Keep vectors and scores, so that a killed command goes on where it stopped."""

    def __post_init__(self) -> None:
        """Refuse what finds nothing."""
        if self.k_key < 1 or self.request_batch_size < 1 or self.batch_tokens < 0:
            raise ConfigError("--k-key and --request-batch-size must be at least 1, --batch-tokens at least 0")
        if self.serving.engine == "vllm" or self.serving.golden:
            raise ConfigError("to embed, this stage takes --engine transformers or http")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.get_top_relevant_keys_embed``."""
    run_command(_get, arguments)


def _get(arguments: Sequence[str]) -> None:
    run(parse(TopRelevantKeysConfig, arguments, "python -m searchrl.preference.get_top_relevant_keys_embed"))


def run(config: TopRelevantKeysConfig) -> None:
    """Do the stage's work."""
    from searchrl.device import choose_device
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.documents import read_documents
    from searchrl.fitting.query_recs import read_query_recs
    from searchrl.fitting.relevance import write_relevance
    from searchrl.models.loader import ModelLoader

    check_outputs(("--output", config.output), inputs=[config.queries_json, config.keys_csv])
    similarity = choose_device(config.similarity_device)
    corpus = read_documents(config.keys_csv, config.key_column)
    recs = read_query_recs(config.queries_json, len(corpus))
    with closing(ModelLoader(config.serving, device=config.device, cache=config.cache)) as loader:
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


def _by_embedding(
    config: TopRelevantKeysConfig, corpus: Corpus, recs: Sequence[QueryRec], loader: ModelLoader, device: str
) -> Ranking:
    import numpy as np

    from searchrl.evaluation.embed import obtain_index
    from searchrl.evaluation.similarity import search
    from searchrl.retrieval.ranking import NO_DOCUMENT

    encoder = loader.encoder(config.model_name)
    if config.batch_tokens and loader.engine != "http":
        from searchrl.models.encoder import Encoder
        from searchrl.models.folders import DEFAULT_ENCODER

        encoder = Encoder(config.model_name or DEFAULT_ENCODER, loader.device.device, token_budget=config.batch_tokens)
    index = obtain_index(corpus, encoder, loader.cache)
    vectors = encoder.encode(
        [rec.query for rec in recs], kind="query", show_progress=True, description="encode queries"
    )
    nothing = np.full(len(recs), NO_DOCUMENT, dtype=np.int32)
    return search(index, vectors, min(config.k_key, len(corpus)), nothing, device)


def _by_reward_model(
    config: TopRelevantKeysConfig, corpus: Corpus, recs: Sequence[QueryRec], ranking: Ranking, loader: ModelLoader
) -> Ranking:
    import numpy as np

    from searchrl.evaluation.score_pairs import score_pairs
    from searchrl.fitting.stage_models import stage_scorer
    from searchrl.retrieval.ranking import Ranking

    reward_model = stage_scorer(config.reward_model, config.scorer, loader)
    queries = [rec.query for rec in recs]
    scores = score_pairs(reward_model, corpus, queries, ranking.documents, config.request_batch_size)
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")
    return Ranking(np.take_along_axis(ranking.documents, order, 1), np.take_along_axis(scores, order, 1))


if __name__ == "__main__":
    main()
