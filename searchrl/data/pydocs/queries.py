"""The embedded dataset: questions as programmers ask them, answered by the standard library's documentation.

Questions and judgments were written for this project and lie beside this file in the BEIR layout. Grades: 2 answers
the question, 1 helps, 0 was looked at and does not.
"""

from __future__ import annotations

from pathlib import Path

from searchrl.data.beir import keep_known, read_qrels
from searchrl.data.dataset import SPLITS, Dataset, QuerySet, Split
from searchrl.data.pydocs.corpus import load_corpus
from searchrl.data.records import read_records

_FOLDER = Path(__file__).parent


def load_pydocs() -> Dataset:
    """Load ``pydocs`` for the running Python version.

    Judgments of documents that this version lacks are dropped, and so are queries left without a relevant one (grade
    1 or 2); ``notes`` counts both.
    """
    corpus = load_corpus()
    texts = {query_id: record["text"] for query_id, record in read_records(_FOLDER / "queries.jsonl").items()}
    splits: dict[Split, QuerySet] = {}
    notes: list[str] = []
    for split in SPLITS:
        known = keep_known(read_qrels(_FOLDER / "qrels" / f"{split}.tsv"), texts, corpus.position)
        ids = [q for q in texts if q in known.qrels and max(known.qrels[q].values()) >= 1]
        splits[split] = QuerySet(ids, [texts[q] for q in ids], {q: known.qrels[q] for q in ids})
        if known.note:
            notes.append(f"{split}: {known.note}")
        if hopeless := len(known.qrels) - len(ids):
            notes.append(f"{split}: {hopeless} queries have no relevant document in this Python version: dropped")
    return Dataset("pydocs", corpus, splits, tuple(notes))
