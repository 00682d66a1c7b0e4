from __future__ import annotations

import uuid

import pytest

from searchrl.data.dataset import Dataset
from searchrl.errors import ConfigError

ir_datasets = pytest.importorskip("ir_datasets", reason="needs the extra 'irds'")
pytestmark = pytest.mark.filterwarnings("default")  # ir_datasets' own


def test_a_registered_dataset_reads_as_any_other(small_dataset: Dataset) -> None:
    from searchrl.connect.irds import register

    name = f"searchrl/{uuid.uuid4().hex}"
    assert register(name, small_dataset) == [name, *(f"{name}/{split}" for split in ("train", "dev", "test"))]
    found = ir_datasets.load(f"{name}/test")
    corpus, queries = small_dataset.corpus, small_dataset.splits["test"]
    docs = list(found.docs_iter())
    assert [d.doc_id for d in docs] == list(corpus.ids)
    assert [d.default_text() for d in docs] == corpus.full_texts()
    assert found.docs_count() == len(corpus)
    assert list(found.docs_iter()[2:5]) == docs[2:5]
    assert found.docs_store().get(docs[-1].doc_id) == docs[-1]
    assert [(q.query_id, q.default_text()) for q in found.queries_iter()] == list(
        zip(queries.ids, queries.texts, strict=True)
    )
    assert found.qrels_dict() == {q: dict(judged) for q, judged in queries.qrels.items()}
    assert set(found.qrels_defs()) == {q.relevance for q in found.qrels_iter()}
    with pytest.raises(ConfigError, match="already"):
        register(name, small_dataset)
