"""``python -m searchrl.evaluation.embed``: rank a BEIR collection's documents for each query by embeddings."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import parse, run_command
from searchrl.config import EngineConfig, SplitName
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.data.dataset import Corpus
    from searchrl.retrieval.dense import DenseIndex, TextEncoder


@dataclass(frozen=True)
class EmbedConfig:
    """Rank a BEIR collection's documents for each query by embeddings, and measure the rankings on human judgments."""

    dataset_path: str
    """A BEIR folder, or a name: nfcorpus, scifact, fiqa, arguana, scidocs (downloaded where missing), pydocs."""
    output: Path
    """JSON records to rerank: query_id, key_ids, scores, positive_key_ids."""
    output_eval: Path
    """JSON query id -> document id -> score; NAME.run (TREC) and NAME.metrics.json are written beside it."""
    split: SplitName = "test"
    """Queries to rank for: those with judgments in this split."""
    model_name: str | None = None
    """Any sentence-transformers model or folder. By default all-MiniLM-L6-v2, which comes with the installation, or the
    model that is served."""
    top_k: int = 100
    """Documents kept for each query."""
    similarity_device: str = "auto"
    """Where similarities are computed: auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    device: str = "auto"
    """Where the model computes; as --similarity-device."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    num_instances: int = 1
    """Copies of the model: one in this process; several are a server's (--engine http)."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    cache: bool = True
    """Keep the document vectors, finished parts of a job that was killed included, for the next command."""

    def __post_init__(self) -> None:
        """Refuse what cannot be ranked."""
        if self.top_k < 1:
            raise ConfigError(f"--top-k {self.top_k}: must be at least 1")
        if self.serving.engine == "vllm" or self.serving.golden:
            flag = "--engine vllm" if self.serving.engine == "vllm" else "--golden"
            raise ConfigError(f"{flag} is for language models; to embed, start a server and use --engine http")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.evaluation.embed``."""
    run_command(_embed, arguments)


def _embed(arguments: Sequence[str]) -> None:
    config = parse(EmbedConfig, arguments, "python -m searchrl.evaluation.embed")
    from searchrl.device import choose_device
    from searchrl.evaluation import stage_files, stages
    from searchrl.evaluation.similarity import search
    from searchrl.files import cache_dir
    from searchrl.models.loader import ModelLoader
    from searchrl.reward.gain import own_document

    stages.check_instances(config.num_instances)
    stages.check_outputs(("--output", config.output), ("--output-eval", config.output_eval))
    similarity = choose_device(config.similarity_device)
    with closing(ModelLoader(config.serving, device=config.device)) as loader:
        encoder = loader.encoder(config.model_name)
        dataset = stages.load_collection(config.dataset_path, config.data_dir, config.mirror)
        queries = stages.judged_queries(dataset, config.split)
        stages.say(stages.describe(dataset, config.split, queries))
        index = obtain_index(dataset.corpus, encoder, cache_dir() if config.cache else None)
        vectors = encoder.encode(queries.texts, kind="query", show_progress=True, description="encode queries")
    ranking = search(index, vectors, config.top_k, own_document(queries, dataset.corpus), similarity.device)
    ranked = stage_files.ranked_queries(queries.ids, dataset.corpus.ids, ranking)
    stage_files.write_records(config.output, ranked, queries.qrels)
    means = stage_files.write_evaluation(config.output_eval, ranked, queries.qrels, "embed")
    stages.say(stages.metrics_table({"embed": means}))


def obtain_index(corpus: Corpus, encoder: TextEncoder, cache: Path | None) -> DenseIndex:
    """Encode a corpus, or map the vectors that are stored for it; a job that was killed goes on where it stopped.

    Of several processes that want the same vectors one encodes and the others wait. Raises OutputError where the cache
    cannot be written.
    """
    from searchrl.env.parts import StoredParts
    from searchrl.evaluation.encode_in_parts import PartwiseEncoder
    from searchrl.files import locked
    from searchrl.retrieval.dense import build_dense_index

    if cache is None:
        return build_dense_index(corpus, encoder, None, show_progress=True)
    name = f"{corpus.fingerprint}-{encoder.fingerprint}"
    parts = cache / "index" / f".{name}.parts"
    with locked(cache / "locks" / f"index-{name}.lock"):
        index = build_dense_index(corpus, PartwiseEncoder(encoder, StoredParts(parts)), cache, show_progress=True)
        shutil.rmtree(parts, ignore_errors=True)
    return index


if __name__ == "__main__":
    main()
