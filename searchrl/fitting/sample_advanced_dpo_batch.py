"""``python -m searchrl.preference.sample_advanced_dpo_batch``: for each query its document and others, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError


@dataclass(frozen=True)
class SampleAdvancedDpoBatchConfig:
    """Choose for each query its own document and others of falling relevance, as the search ranked them."""

    relevance_json: Path
    """relevance_records_embed.json of get_top_relevant_keys_embed."""
    source_csv: Path
    """The documents: df.csv of process_data."""
    output: Path
    """adpo_sampled_query_key_set.json: query, correspond_keys, sampled_keys (best first) and their sampled_levels."""
    source_column: str = "text"
    """Column that holds the text."""
    n_sampled_keys: int = 4
    """Other documents for each query: the last at random from all, the rest at ever later places of the ranking."""
    order: bool = True
    """The order of the sampled keys counts; otherwise only that the query's own is better than each."""
    random_seed: int = 42
    """Seeds the draws."""

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to compare."""
        if self.n_sampled_keys < 1 or self.random_seed < 0:
            raise ConfigError("--n-sampled-keys must be at least 1, --random-seed at least 0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.sample_advanced_dpo_batch``."""
    run_command(_sample, arguments)


def _sample(arguments: Sequence[str]) -> None:
    run(parse(SampleAdvancedDpoBatchConfig, arguments, "python -m searchrl.preference.sample_advanced_dpo_batch"))


def run(config: SampleAdvancedDpoBatchConfig) -> None:
    """Do the stage's work."""
    from searchrl.device import rng
    from searchrl.errors import DataError
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.documents import read_documents
    from searchrl.fitting.json_records import write_records
    from searchrl.fitting.relevance import read_relevance
    from searchrl.fitting.sampling import draw_others, ladder

    check_outputs(("--output", config.output), inputs=[config.relevance_json, config.source_csv])
    corpus = read_documents(config.source_csv, config.source_column)
    ranked = read_relevance(config.relevance_json, len(corpus))
    records = []
    for one in ranked:
        own = one.rec.df_id
        if own is None:
            continue
        random = rng(config.random_seed, "sample_advanced_dpo_batch", one.query_id, one.rec.query)
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
        raise DataError(f"{config.relevance_json}: no query with a document of its own (df_id) and another to compare")
    write_records(config.output, records)
    say(f"{len(records)} of {len(ranked)} queries with {config.n_sampled_keys} keys beside their own: {config.output}")


if __name__ == "__main__":
    main()
