"""``python -m searchrl.preference.sample_dpo_batch``: for each query a few documents for a judge to choose among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError


@dataclass(frozen=True)
class SampleDpoBatchConfig:
    """Choose for each query its own document, others that were retrieved, and some at random."""

    relevance_json: Path
    """relevance_records_embed.json of get_top_relevant_keys_embed."""
    source_csv: Path
    """The documents: df.csv of process_data."""
    output: Path
    """sampled_query_key_set.json: query, query_id, key_ids, keys, and where each key is from."""
    source_column: str = "text"
    """Column that holds the text."""
    n_retrieved: int = 2
    """Documents drawn from those retrieved, the query's own left out."""
    n_random: int = 1
    """Documents drawn from all others."""
    random_seed: int = 42
    """Seeds the draws."""

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to compare."""
        if self.n_retrieved < 0 or self.n_random < 0 or self.n_retrieved + self.n_random < 1:
            raise ConfigError("--n-retrieved and --n-random: at least one document must stand against a query's own")
        if self.random_seed < 0:
            raise ConfigError(f"--random-seed {self.random_seed}: must be at least 0")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.sample_dpo_batch``."""
    run_command(_sample, arguments)


def _sample(arguments: Sequence[str]) -> None:
    run(parse(SampleDpoBatchConfig, arguments, "python -m searchrl.preference.sample_dpo_batch"))


def run(config: SampleDpoBatchConfig) -> None:
    """Do the stage's work."""
    from searchrl.device import rng
    from searchrl.errors import DataError
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.documents import read_documents
    from searchrl.fitting.json_records import write_records
    from searchrl.fitting.relevance import read_relevance
    from searchrl.fitting.sampling import draw, draw_others

    check_outputs(("--output", config.output), inputs=[config.relevance_json, config.source_csv])
    corpus = read_documents(config.source_csv, config.source_column)
    records = []
    ranked = read_relevance(config.relevance_json, len(corpus))
    for one in ranked:
        random = rng(config.random_seed, "sample_dpo_batch", one.query_id, one.rec.query)
        own = [] if one.rec.df_id is None else [one.rec.df_id]
        retrieved = draw(random, [key for key in one.key_ids if key not in own], config.n_retrieved)
        others = draw_others(random, len(corpus), config.n_random, {*own, *one.key_ids})
        keys = [*own, *retrieved, *others]
        origins = ["source"] * len(own) + ["retrieved"] * len(retrieved) + ["random"] * len(others)
        if len(keys) > 1:
            rec = {"query_id": one.query_id, **one.rec.record()}
            records.append({**rec, "key_ids": keys, "keys": [corpus.full_text(k) for k in keys], "origins": origins})
    if not records:
        raise DataError(f"{config.relevance_json}: no query has two documents to compare")
    write_records(config.output, records)
    say(f"{len(records)} of {len(ranked)} queries with {sum(len(r['keys']) for r in records)} keys: {config.output}")


if __name__ == "__main__":
    main()
