"""``python -m searchrl.evaluation.rerank``: reorder the top of the embed stage's rankings by a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import parse, run_command
from searchrl.config import DtypeName, EngineConfig, ScorerName, SplitName
from searchrl.errors import ConfigError

if TYPE_CHECKING:
    from searchrl.models.loader import ModelLoader
    from searchrl.reward.reward_model import RewardModel


@dataclass(frozen=True)
class RerankConfig:
    """Reorder the top of the embed stage's rankings by a reward model's scores, and measure before and after."""

    dataset_path: str
    """The collection that was embedded: a BEIR folder, or a name."""
    embed_output: Path
    """Records that the embed stage wrote to its --output."""
    output_eval: Path
    """JSON query id -> document id -> score; NAME.run (TREC) and NAME.metrics.json are written beside it."""
    output: Path | None = None
    """JSON records, as the embed stage's, with the order before and the reward model's own scores."""
    split: SplitName = "test"
    """The split that was embedded."""
    model_name: str | None = None
    """A causal language model, a reward model with one output or a cross-encoder: preset, hub name or folder; by
    default the device's language model (on a cpu smollm2-135m, which is installed with SearchRL), or the one served."""
    scorer: ScorerName = "auto"
    """What the model is; auto: told from its files, and a causal language model judges by likelihood below about 1B
    parameters, else by grades."""
    interpolate: float = 0.4
    """Weight of the reward model's scores against the embedding's, as z-scores; 1 is the reward model alone."""
    top_k: int = 20
    """Documents of each ranking to score; the others stay below them, in the order they had."""
    request_batch_size: int = 128
    """Pairs scored together; what a kill loses at most."""
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda, cuda:N or cpu."""
    dtype: DtypeName = "auto"
    """Numeric format of the model; auto: the device's, int8 where that was measured to do."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    num_instances: int = 1
    """Copies of the model: one in this process; several are a server's (--engine http)."""
    data_dir: Path | None = None
    """Where collections lie and downloads go; $SEARCHRL_DATA if not given."""
    mirror: str | None = None
    """Base address to download BEIR zips from instead of the public host."""
    cache: bool = True
    """Keep every batch of scores, so that a job that was killed goes on, and another --interpolate costs nothing."""

    def __post_init__(self) -> None:
        """Refuse what cannot be reranked."""
        for name, value in (("top-k", self.top_k), ("request-batch-size", self.request_batch_size)):
            if value < 1:
                raise ConfigError(f"--{name} {value}: must be at least 1")
        if not 0.0 <= self.interpolate <= 1.0:
            raise ConfigError(f"--interpolate {self.interpolate}: must lie between 0 and 1")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.evaluation.rerank``."""
    run_command(_rerank, arguments)


def _rerank(arguments: Sequence[str]) -> None:
    config = parse(RerankConfig, arguments, "python -m searchrl.evaluation.rerank")
    from searchrl.evaluation import stage_files, stages
    from searchrl.evaluation.interpolation import interpolate
    from searchrl.evaluation.score_pairs import score_pairs
    from searchrl.models.loader import ModelLoader

    stages.check_instances(config.num_instances)
    stages.check_outputs(
        ("--output", config.output), ("--output-eval", config.output_eval), inputs=[config.embed_output]
    )
    ranked = stage_files.read_records(config.embed_output)
    dataset = stages.load_collection(config.dataset_path, config.data_dir, config.mirror)
    queries, corpus = stages.judged_queries(dataset, config.split), dataset.corpus
    texts, before = stages.resolve(ranked, queries, corpus, config.embed_output)
    stages.say(stages.describe(dataset, config.split, queries))

    with closing(ModelLoader(config.serving, device=config.device, dtype=config.dtype, cache=config.cache)) as loader:
        top = before.documents[:, : config.top_k]
        scores = score_pairs(_reward_model(config, loader), corpus, texts, top, config.request_batch_size)
    ids = [query.query_id for query in ranked]
    after = stage_files.ranked_queries(ids, corpus.ids, interpolate(before, scores, config.interpolate))
    if config.output:
        more = [
            {"pre_key_ids": query.key_ids, "embed_scores": query.scores, "rerank_scores": row[: len(query.key_ids)]}
            for query, row in zip(ranked, scores.tolist(), strict=True)
        ]
        stage_files.write_records(config.output, after, queries.qrels, more)
    means = {
        "embed": stage_files.mean_values(stage_files.judge(ranked, queries.qrels)),
        "rerank": stage_files.write_evaluation(config.output_eval, after, queries.qrels, "rerank"),
    }
    stages.say(stages.metrics_table(means))


def _reward_model(config: RerankConfig, loader: ModelLoader) -> RewardModel:
    from searchrl.reward.registry import ScorerSettings, make_reward

    return make_reward(config.model_name, ScorerSettings(config.scorer), loader)


if __name__ == "__main__":
    main()
