"""``python -m searchrl.preference.filter_query_recs``: keep queries of some kinds, once each, of a sensible length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from searchrl.command import parse, run_command
from searchrl.errors import ConfigError


@dataclass(frozen=True)
class FilterQueryRecsConfig:
    """Keep queries of some kinds, once each, of a sensible length."""

    input: Path
    """query_recs.json of make_query_recs."""
    output: Path
    """The same records, fewer."""
    filter: tuple[str, ...] = ("questions",)
    """Kinds to keep (query-type): titles, questions, keywords; `all` for all."""
    min_words: int = 3
    """Words of a query at least; keywords are counted one by one."""
    max_words: int = 25
    """Words of a query at most."""

    def __post_init__(self) -> None:
        """Refuse what keeps nothing."""
        if not 1 <= self.min_words <= self.max_words:
            raise ConfigError(f"--min-words {self.min_words} and --max-words {self.max_words}: no length is both")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.preference.filter_query_recs``."""
    run_command(_filter, arguments)


def _filter(arguments: Sequence[str]) -> None:
    run(parse(FilterQueryRecsConfig, arguments, "python -m searchrl.preference.filter_query_recs"))


def run(config: FilterQueryRecsConfig) -> None:
    """Do the stage's work."""
    import re
    from collections import Counter

    from searchrl.errors import DataError
    from searchrl.evaluation.stages import check_outputs, say
    from searchrl.fitting.json_records import write_records
    from searchrl.fitting.query_recs import read_query_recs

    check_outputs(("--output", config.output), inputs=[config.input])
    recs = read_query_recs(config.input)
    rejected: Counter[str] = Counter()
    kept, seen = [], set()
    for rec in recs:
        words = tuple(re.findall(r"\w+", rec.query.lower()))
        if "all" not in config.filter and rec.kind not in config.filter:
            rejected["of another kind"] += 1
        elif not config.min_words <= len(words) <= config.max_words:
            rejected["too short or too long"] += 1
        elif words in seen:
            rejected["asked before"] += 1
        else:
            seen.add(words)
            kept.append(rec)
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.items()) or "none rejected"
    if not kept:
        there = ", ".join(sorted({rec.kind for rec in recs}))
        raise DataError(f"{config.input}: no query is kept ({reasons}); its kinds are {there}")
    write_records(config.output, [rec.record() for rec in kept])
    say(f"{len(kept)} of {len(recs)} queries kept ({reasons}): {config.output}")


if __name__ == "__main__":
    main()
