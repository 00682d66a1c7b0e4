"""``python -m searchrl.preference.pipeline``: from a folder of documents to a reward model fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from searchrl.command import parse, run_command
from searchrl.config import DtypeName, EngineConfig
from searchrl.errors import ConfigError
from searchrl.fitting.judge_dataset import JudgeName
from searchrl.fitting.stage_config import LanguageModelConfig
from searchrl.fitting.train_config import FittingConfig, LoraConfigFlags, TrackingConfig

if TYPE_CHECKING:
    from searchrl.fitting.steps import Step


@dataclass(frozen=True)
class PipelineConfig:
    """Make queries about documents, find candidates, judge them, and fit a reward model to the preferences."""

    corpus: str
    """Documents: a folder, a file, a dataset's name or a hub data set, as process_data takes them."""
    output_dir: Path
    """Everything goes here: data/ (what the stages write) and model/ (the trained model). The same command again goes
    on where it stopped."""
    adpo: bool = False
    """Train on whole orders (sample_advanced_dpo_batch, train_adpo_lora) instead of judged pairs."""
    n_sample: int | None = None
    """Documents to use, drawn at random; all if not given."""
    text_column: str = "text"
    """Field of tables and hub data sets that holds the text."""
    kinds: tuple[str, ...] = ("questions",)
    """What queries to write and keep: titles, questions, keywords."""
    per_document: int = 1
    """Queries of each kind for a document."""
    writer: str | None = None
    """The language model that writes queries and judges: preset, hub name or folder; by default the device's, or the
    one served."""
    serving: EngineConfig = field(default_factory=EngineConfig)
    encoder: str | None = None
    """What finds candidates; all-MiniLM-L6-v2 if not given."""
    k_key: int = 50
    """Candidates for each query."""
    n_retrieved: int = 3
    """Of these, documents to compare with a query's own."""
    n_random: int = 1
    """Documents at random to compare with it."""
    n_sampled_keys: int = 4
    """With --adpo: documents on a ladder beside the query's own."""
    judge: JudgeName = "auto"
    """Who picks the better of two; see judge_dataset."""
    test_share: float = 0.1
    """Share of the documents whose queries are held out."""
    max_train: int | None = None
    """Lists (a query and its documents) to train on at most; 0 for all. By default 360 on a CPU, all elsewhere."""
    lora: LoraConfigFlags = field(default_factory=LoraConfigFlags)
    fitting: FittingConfig = field(default_factory=FittingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    device: str = "auto"
    """auto (mps, then cuda, then cpu), mps, cuda or cpu."""
    dtype: DtypeName = "auto"
    """Numeric format of the model that is trained."""
    cache: bool = True
    """Keep answers, vectors and scores, so that a killed command goes on where it stopped."""
    overwrite: bool = False
    """Train anew where model/ holds another run."""

    def __post_init__(self) -> None:
        """Refuse unknown kinds of queries."""
        if not self.kinds or not set(self.kinds) <= {"titles", "questions", "keywords"}:
            raise ConfigError(f"--kinds {' '.join(self.kinds)}: choose of titles, questions, keywords")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.pipeline``."""
    run_command(_pipeline, arguments)


def _pipeline(arguments: Sequence[str]) -> None:
    run(parse(PipelineConfig, arguments, "python -m searchrl.preference.pipeline"))


def run(config: PipelineConfig) -> None:
    """Do what is left to do."""
    from searchrl.evaluation.stages import say
    from searchrl.fitting import train_lora
    from searchrl.fitting.steps import do
    from searchrl.fitting.tracking import check_tracking
    from searchrl.fitting.train_config import PreferenceDataConfig, TrainLoraConfig
    from searchrl.fitting.training import check_installed, training_device

    check_installed()  # said now, not after an hour of work
    training_device(config.device, config.dtype)
    check_tracking(config.tracking)
    data = config.output_dir / "data"
    for step in steps(config, data):
        if not do(step, data / "stages"):
            say(f"{step.name}: done before")
    if config.adpo:
        ladders = data / "adpo_sampled_query_key_set.json"
        lists = PreferenceDataConfig(ladders, test_share=config.test_share, max_train=config.max_train)
    else:
        judged, held_out = data / "dataset_list_train.json", data / "dataset_list_test.json"
        lists = PreferenceDataConfig(
            judged, held_out if held_out.exists() else None, test_share=config.test_share, max_train=config.max_train
        )
    training = TrainLoraConfig(
        config.output_dir / "model",
        lists,
        config.lora,
        config.fitting,
        config.tracking,
        config.device,
        config.dtype,
        config.cache,
        config.overwrite,
    )
    train_lora.run(training, "listwise" if config.adpo else "pairwise")


def steps(config: PipelineConfig, data: Path) -> list[Step]:
    """The stages before training, in order; ``data`` is where they write."""
    from searchrl.fitting import (
        filter_query_recs,
        get_top_relevant_keys_embed,
        judge_dataset,
        make_query_recs,
        process_data,
        sample_advanced_dpo_batch,
        sample_dpo_batch,
    )
    from searchrl.fitting.steps import Step

    seed = config.fitting.seed
    lm = LanguageModelConfig(config.writer, config.device, serving=config.serving, cache=config.cache)
    corpus = Path(config.corpus).expanduser()
    documents, queries, kept = data / "df.csv", data / "query_recs.json", data / "filtered_query_recs.json"
    relevance, sampled = data / "relevance_records_embed.json", data / "sampled_query_key_set.json"
    ladders = data / "adpo_sampled_query_key_set.json"
    kinds: tuple[make_query_recs.KindName, ...] = config.kinds  # type: ignore[assignment]
    common = [
        Step(
            "process_data",
            process_data.ProcessDataConfig(
                config.corpus, data, config.n_sample, text_column=config.text_column, random_seed=seed
            ),
            process_data.run,
            [corpus] if corpus.exists() else [],
            [documents],
        ),
        Step(
            "make_query_recs",
            make_query_recs.MakeQueryRecsConfig(
                documents, queries, kinds=kinds, per_document=config.per_document, seed=seed, lm=lm
            ),
            make_query_recs.run,
            [documents],
            [queries],
        ),
        Step(
            "filter_query_recs",
            filter_query_recs.FilterQueryRecsConfig(queries, kept, config.kinds),
            filter_query_recs.run,
            [queries],
            [kept],
        ),
        Step(
            "get_top_relevant_keys_embed",
            get_top_relevant_keys_embed.TopRelevantKeysConfig(
                kept,
                documents,
                relevance,
                model_name=config.encoder,
                k_key=config.k_key,
                device=config.device,
                similarity_device=config.device,
                cache=config.cache,
            ),
            get_top_relevant_keys_embed.run,
            [kept, documents],
            [relevance],
        ),
    ]
    if config.adpo:
        ladder = sample_advanced_dpo_batch.SampleAdvancedDpoBatchConfig(
            relevance, documents, ladders, n_sampled_keys=config.n_sampled_keys, random_seed=seed
        )
        return [
            *common,
            Step("sample_advanced_dpo_batch", ladder, sample_advanced_dpo_batch.run, [relevance, documents], [ladders]),
        ]
    sample = sample_dpo_batch.SampleDpoBatchConfig(
        relevance,
        documents,
        sampled,
        n_retrieved=config.n_retrieved,
        n_random=config.n_random,
        random_seed=seed,
    )
    judged = judge_dataset.JudgeDatasetConfig(
        sampled, data, config.judge, test_share=config.test_share, seed=seed, lm=lm
    )
    lists = [data / f"dataset_list_{split}.json" for split in ("train", "test")]
    return [
        *common,
        Step("sample_dpo_batch", sample, sample_dpo_batch.run, [relevance, documents], [sampled]),
        Step("judge_dataset", judged, judge_dataset.run, [sampled], lists),
    ]


if __name__ == "__main__":
    main()
