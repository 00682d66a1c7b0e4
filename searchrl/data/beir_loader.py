"""beir's ``GenericDataLoader``, its three readers replaced by ones that trace each fault to file and line.

beir decides what a dataset folder is: the names of its files, what a split is, which queries belong to it. Its own
readers give up on a byte order mark or a blank line, say nothing of duplicate ids or missing fields, and end in a
KeyError when the qrels name an unknown query. Import this module late: beir takes a while.
"""

from __future__ import annotations

from pathlib import Path

from beir.datasets.data_loader import GenericDataLoader

from searchrl.data.dataset import Qrels
from searchrl.data.qrels import keep_known, read_qrels
from searchrl.data.records import read_records
from searchrl.errors import DataError


class CheckedLoader(GenericDataLoader):  # type: ignore[misc]  # beir is not typed
    """Loads a BEIR folder; ``notes`` says what was dropped on the way."""

    def __init__(self, folder: Path) -> None:
        super().__init__(data_folder=str(folder))
        self.notes: list[str] = []

    def load_split(self, split: str) -> tuple[dict[str, str], Qrels]:
        """Texts of the queries that have judgments in this split, in file order, and the judgments."""
        self.queries: dict[str, str] = {}  # beir narrows both to one split; the corpus it keeps
        _, queries, qrels = self.load(split)
        return queries, qrels

    def _load_corpus(self) -> None:
        self.corpus = read_records(Path(self.corpus_file))

    def _load_queries(self) -> None:
        self.queries = {query_id: record["text"] for query_id, record in read_records(Path(self.query_file)).items()}

    def _load_qrels(self) -> None:
        path = Path(self.qrels_file)
        known = keep_known(read_qrels(path), self.queries, self.corpus)
        if not known.qrels:
            raise DataError(f"{path}: {known.note}; nothing is left. Do these qrels belong to this corpus?")
        if known.note:
            self.notes.append(f"{path.stem}: {known.note}")
        self.qrels = {query_id: known.qrels[query_id] for query_id in self.queries if query_id in known.qrels}
