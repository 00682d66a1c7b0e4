"""``python -m searchrl.cli.cache``: what is kept between commands, and how to be rid of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from searchrl.command import parse, run_command

PARTS = ("index", "graphs", "models", "datasets")


@dataclass(frozen=True)
class CacheConfig:
    """Show what SearchRL keeps between commands, or clear it."""

    clear: bool = False
    """Delete the language model's answers, the indexes, the search graphs and the measured speed of numeric formats;
    models and datasets stay."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m searchrl.cli.cache``."""
    run_command(_cache, arguments)


def _cache(arguments: Sequence[str]) -> None:
    config = parse(CacheConfig, arguments, "python -m searchrl.cli.cache")
    from searchrl.evaluation.text_table import text_table
    from searchrl.files import cache_dir
    from searchrl.formats import FILE, remembered, said
    from searchrl.models.lm_cache import cache_stats, clear_cache, default_cache_path

    folder = cache_dir()
    print(f"cache: {folder}")
    if config.clear:
        cleared = clear_cache(default_cache_path())
        for part in ("index", "graphs"):
            shutil.rmtree(folder / part, ignore_errors=True)
        (folder / FILE).unlink(missing_ok=True)
        print(f"cleared: {cleared.entries} language model answers, all indexes and search graphs")
    answers = cache_stats(default_cache_path())
    rows = [["language model answers", str(answers.entries), _megabytes(answers.bytes)]]
    for part in PARTS:
        files = [f for f in (folder / part).rglob("*") if f.is_file()]
        entries = len(list((folder / part).iterdir())) if (folder / part).is_dir() else 0
        rows.append([part, str(entries), _megabytes(sum(f.stat().st_size for f in files))])
    print(text_table(["kept", "entries", "MB"], rows))
    for processor, speed in remembered().items():
        print(f"numeric formats on {processor}, tokens/s on one thread: {said(speed)}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"


if __name__ == "__main__":
    main()
