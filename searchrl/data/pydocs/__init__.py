"""The embedded dataset: Python's standard library as its docstrings tell it, and questions about it.

``corpus.jsonl.gz`` was made by ``make.py`` from Python 3.11 and is the same for every interpreter. Questions and
judgments were written for this project and lie beside it in the BEIR layout. Grades: 2 answers the question, 1 helps, 0
was looked at and does not. See docs/PYDOCS.md.
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path

from searchrl.data.beir import read_qrels
from searchrl.data.dataset import SPLITS, Corpus, Dataset, QuerySet
from searchrl.data.records import read_records

FOLDER = Path(__file__).parent


@lru_cache(maxsize=1)
def load_pydocs() -> Dataset:
    """Load ``pydocs``: 4,236 documents in name order; 160 train, 40 dev and 100 test queries with human judgments."""
    with gzip.open(FOLDER / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = [json.loads(line) for line in file]
    corpus = Corpus(*([document[field] for document in documents] for field in ("_id", "title", "text")))
    texts = {query_id: record["text"] for query_id, record in read_records(FOLDER / "queries.jsonl").items()}
    splits = {}
    for split in SPLITS:
        qrels = read_qrels(FOLDER / "qrels" / f"{split}.tsv")
        ids = [query_id for query_id in texts if query_id in qrels]
        splits[split] = QuerySet(ids, [texts[query_id] for query_id in ids], {i: qrels[i] for i in ids})
    return Dataset("pydocs", corpus, splits)
