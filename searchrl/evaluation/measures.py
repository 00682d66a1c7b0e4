"""How good rankings are by human judgments, in every measure that ir_measures knows; reward models and tag trees, too.

nDCG, precision, recall, average precision and the like come from trec_eval through pytrec_eval, ERR from TREC's gdeval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchrl.data.dataset import Corpus, Qrels, QuerySet
from searchrl.data.own_document import own_document
from searchrl.errors import ConfigError, DataError, ModelError, nearest
from searchrl.evaluation.text_table import number, text_table
from searchrl.retrieval.dense import DenseIndex
from searchrl.retrieval.ranking import NO_DOCUMENT, IntArray, Ranking

if TYPE_CHECKING:
    import ir_measures

    from searchrl.retrieval.tagtree.retriever import MakeGuide, TagTreeRetriever


MEASURES = ("nDCG@10", "Recall@100", "MRR@10")
"""What every table shows unless told otherwise."""

COMMON = ("nDCG", "AP", "RR", "P", "R", "ERR", "Success", "Rprec", "Bpref", "Judged", "MAP", "MRR", "Recall")
"""Names that an error message lists; ``ir_measures`` has more."""

Run = Mapping[str, Mapping[str, float]]
"""query id -> document id -> score: a ranking file in memory."""


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """Score a run against human judgments: measure -> query id -> value, queries in the order of ``qrels``.

    measures: names as ir_measures reads them: ``nDCG@10``, ``AP``, ``RR@10``, ``P(rel=2)@5``, ``R@100``, ``ERR@20``.
    A grade of 1 or more is relevant unless the measure says otherwise; one below 0 counts as 0. Every query in
    ``qrels`` counts: one that the run lacks scores 0; queries without judgments are left out. Documents are ordered as
    trec_eval orders them: by score as float32, ties by document id, descending. Inputs are not changed. Raises
    ConfigError on an unknown measure, or one that cannot be computed here. Sources: Van Gysel and de Rijke (2018),
    "Pytrec_eval"; MacAvaney, Macdonald and Ounis (2022), "Streamlining evaluation with ir-measures".
    """
    import ir_measures

    parsed = {name: parse_measure(name) for name in measures}
    grades, ranked, numbers = _plain(run, qrels)
    found: dict[ir_measures.Measure, dict[str, float]] = {measure: {} for measure in parsed.values()}
    try:
        for value in ir_measures.iter_calc(list(found), grades, ranked):
            found[value.measure][value.query_id] = float(value.value)
    except Exception as error:  # gdeval and others fail in their own ways, say where a grade is too high for them
        reason = " ".join(str(error).split())
        raise ConfigError(f"{', '.join(parsed)} cannot be computed on these judgments: {reason}") from error
    return {
        name: {query: found[measure].get(numbers[query], 0.0) for query in qrels} for name, measure in parsed.items()
    }


LARGEST_CUTOFF = 1_000_000


def parse_measure(name: str) -> ir_measures.Measure:
    """Read a measure's name. Raises ConfigError saying which names there are."""
    import ir_measures

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python's ast, for ir_measures' way to use it
            measure = ir_measures.parse_measure(name)
        measure.validate_params()  # type: ignore[no-untyped-call, unused-ignore]
    except (NameError, ValueError, TypeError, AssertionError, AttributeError, SyntaxError, RecursionError) as error:
        valid = nearest(name.split("@")[0], COMMON)
        raise ConfigError(f"unknown measure {name!r}: write NAME@CUTOFF, as in nDCG@10; {valid}") from error
    if not 1 <= measure.params.get("cutoff", 1) <= LARGEST_CUTOFF:  # pytrec_eval ends the process on others
        raise ConfigError(f"measure {name!r}: the cutoff must lie between 1 and {LARGEST_CUTOFF}")
    if not ir_measures.DefaultPipeline.supports(measure):  # type: ignore[no-untyped-call, unused-ignore]
        raise ConfigError(f"measure {name!r} cannot be computed here; nDCG@10, AP, RR@10, P@5, R@100 and ERR@20 can")
    return measure


def _plain(run: Run, qrels: Qrels) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]], dict[str, str]]:
    """Judgments and run with numbers for ids, and ties broken, so that every provider reads and orders them alike.

    gdeval wants numbers for queries, other providers break ties otherwise than trec_eval, and pytrec_eval 0.5 corrupts
    memory on some grades below 0. Returns (judgments, run, query id -> number).
    """
    grades: dict[str, dict[str, int]] = {}
    ranked: dict[str, dict[str, float]] = {}
    numbers: dict[str, str] = {}
    for i, (query, judged) in enumerate(qrels.items(), start=1):
        numbers[query] = number = str(i)
        documents = run.get(query, {})
        scores = np.fromiter(documents.values(), dtype=np.float32, count=len(documents)).tolist()
        order = sorted(zip(scores, documents, strict=True), reverse=True)
        name = {document: f"d{place}" for place, (_, document) in enumerate(order)}
        if order:
            ranked[number] = {name[document]: float(len(order) - place) for place, (_, document) in enumerate(order)}
        grades[number] = {
            name.get(document, f"u{j}"): max(grade, 0) for j, (document, grade) in enumerate(judged.items())
        }
    return grades, ranked, numbers


def ranking_to_run(query_ids: Sequence[str], doc_ids: Sequence[str], ranking: Ranking) -> dict[str, dict[str, float]]:
    """Name a ranking's queries and documents, for ``evaluate`` and for TREC files.

    query_ids: n ids. doc_ids: the corpus's ids by index. Scores count down by 1 from the ranking's depth: what the
    retriever scored alike stays in the order given, which trec_eval's tie-breaking would otherwise change. Raises
    DataError on a document listed twice.
    """
    names = ranked_ids(doc_ids, ranking)
    scores = np.arange(ranking.documents.shape[1], 0, -1, dtype=np.float64).tolist()
    run: dict[str, dict[str, float]] = {}
    for query, documents in zip(query_ids, names, strict=True):
        run[query] = dict(zip(documents, scores, strict=False))
        if len(run[query]) < len(documents):
            raise DataError(f"the ranking of query {query!r} lists a document twice")
    return run


def ranked_ids(doc_ids: Sequence[str], ranking: Ranking) -> list[list[str]]:
    """Document ids of each of n rankings, best first, without the empty tail. doc_ids: the corpus's ids by index."""
    names = np.asarray(doc_ids, dtype=object)[ranking.documents].tolist()
    lengths = (ranking.documents != NO_DOCUMENT).sum(axis=1).tolist()
    return [documents[:length] for documents, length in zip(names, lengths, strict=True)]


def evaluate_ranking(
    ranking: Ranking, queries: QuerySet, doc_ids: Sequence[str], measures: Sequence[str] = MEASURES
) -> dict[str, NDArray[np.float64]]:
    """Score the ranking of each of n queries: measure -> (n,) in the order of ``queries``.

    Raises DataError if a query has no judgments: it has no score, and 0 would be wrong.
    """
    unjudged = [query for query in queries.ids if query not in queries.qrels]
    if unjudged:
        raise DataError(
            f"{len(unjudged)} of {len(queries)} queries have no human judgments (first: {unjudged[0]!r}); "
            "evaluate on judged queries only"
        )
    values = evaluate(ranking_to_run(queries.ids, doc_ids, ranking), queries.qrels, measures)
    return {measure: np.array([by_query[query] for query in queries.ids]) for measure, by_query in values.items()}


FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RewardQuality:
    """Agreement of scores with human judgments. AUC: .5 is chance; correlations: 0 is. NaN where undefined."""

    auc: float
    """Over all pairs together: does a score mean the same from query to query?"""
    auc_within: float
    """Mean over queries: does the model tell relevant from not relevant among one query's documents?"""
    kendall: float
    """Mean over queries of Kendall's tau-b between scores and grades."""
    spearman: float
    """Mean over queries of Spearman's rank correlation between scores and grades."""
    queries: int
    """Queries with both relevant and other documents among the scored; the means are over these."""
    pairs: int
    """Scored (query, document) pairs."""
    relevant: int
    """Those of the pairs that humans judged relevant."""

    def __str__(self) -> str:
        counts = f"{self.queries} queries, {self.pairs} pairs, {self.relevant} of them relevant"
        if math.isnan(self.auc):
            return f"unknown: the judgments do not tell the scored documents apart ({counts})"
        overall = f"AUC {self.auc:.3f} over all pairs"
        if not self.queries:
            return f"{overall}; undefined within queries ({counts})"
        within = f"{self.auc_within:.3f} within a query, tau-b {self.kendall:.3f}, Spearman {self.spearman:.3f}"
        return f"{overall}, {within} ({counts})"


def reward_quality(scores: ArrayLike, grades: ArrayLike) -> RewardQuality:
    """Measure how well raw scores agree with human grades.

    scores: (n, pool), row i the pool of query i, NaN where the pool is shorter. grades: (n, pool), relevant above 0;
    NaN (not judged) and negative count as 0. A row in which all scores are equal counts as AUC .5 and correlation 0:
    such a model said nothing. Raises DataError if the shapes differ, ModelError on an infinite score.
    """
    from scipy import stats

    score = np.asarray(scores, dtype=np.float64)
    grade = np.fmax(np.asarray(grades, dtype=np.float64), 0.0)
    if score.ndim != 2 or score.shape != grade.shape:
        raise DataError(f"scores of shape {score.shape} and grades of shape {grade.shape}: need two (queries, pool)")
    if np.isinf(score).any():
        raise ModelError("the reward model gave an infinite score; scores must be finite")
    known = ~np.isnan(score)
    relevant = known & (grade > 0)
    both = relevant.any(axis=1) & (known & ~relevant).any(axis=1)
    flat, flat_relevant = score[known][None], relevant[known][None]
    rows = [(score[i, known[i]], grade[i, known[i]]) for i in np.flatnonzero(both)]
    varied = [np.ptp(s) > 0 for s, _ in rows]
    taus = [stats.kendalltau(s, g).statistic if v else 0.0 for (s, g), v in zip(rows, varied, strict=True)]
    rhos = [stats.spearmanr(s, g).statistic if v else 0.0 for (s, g), v in zip(rows, varied, strict=True)]
    return RewardQuality(
        auc=float(auc(flat, flat_relevant)[0]),
        auc_within=_mean(auc(score[both], relevant[both])),
        kendall=_mean(taus),
        spearman=_mean(rhos),
        queries=int(both.sum()),
        pairs=int(known.sum()),
        relevant=int(relevant.sum()),
    )


def auc(scores: FloatArray, relevant: NDArray[np.bool_]) -> FloatArray:
    """Area under the ROC curve of each row: the chance that a relevant document outscores another, ties half.

    scores: (n, m), NaN for absent. relevant: (n, m). Returns (n,), NaN where a row lacks either kind.
    Source: the rank-sum identity, Hanley and McNeil (1982).
    """
    from scipy.stats import rankdata

    known = ~np.isnan(scores)
    positives = (relevant & known).sum(axis=1).astype(np.float64)
    contrasts = positives * (known.sum(axis=1) - positives)
    ranks = rankdata(np.where(known, scores, np.inf), axis=1) if scores.size else scores  # inf: past all others
    rank_sum = np.where(relevant & known, ranks, 0.0).sum(axis=1)
    above = rank_sum - positives * (positives + 1) / 2
    return np.asarray(np.divide(above, contrasts, out=np.full_like(above, np.nan), where=contrasts > 0))


def _mean(values: ArrayLike) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


@dataclass(frozen=True)
class Measured:
    """Means over the queries. scored: documents scored, as a share of the collection. compared: tags and clusters
    compared with a query. values: measure -> its value. overlap: share of exact search's documents that were found.
    beam_width and candidates (documents to be scored at most) are None for exact search itself.
    """

    beam_width: int | None
    candidates: int | None
    scored: float
    compared: float
    values: dict[str, float]
    overlap: float


def measure_tag_tree(
    retriever: TagTreeRetriever,
    queries: QuerySet,
    vectors: NDArray[np.float32],
    corpus: Corpus,
    k: int,
    *,
    beams: Sequence[int],
    shares: Sequence[float],
    guide: MakeGuide | None = None,
) -> list[Measured]:
    """Exact search, then every share of the documents with every beam width. vectors: the queries', (n, dim).

    Shares that come to the same number of documents, ``k`` at least, are one. Queries without judgments are left out;
    one at least must have them.
    """
    rows = [i for i, name in enumerate(queries.ids) if name in queries.qrels]
    queries = queries.only(rows)
    vectors = vectors[rows]
    of_judged = None if guide is None else lambda places: guide([rows[place] for place in places])
    exclude = own_document(queries, corpus)
    exact = DenseIndex(retriever.vectors).search(vectors, k, exclude)
    wanted = (f"Recall@{k}", "nDCG@10")

    def means(ranking: Ranking) -> dict[str, float]:
        values = evaluate_ranking(ranking, queries, corpus.ids, wanted)
        return {name: float(by_query.mean()) for name, by_query in values.items()}

    measured = [Measured(None, None, 1.0, 0.0, means(exact), 1.0)]
    for candidates in dict.fromkeys(max(k, round(share * len(corpus))) for share in shares):
        for beam in dict.fromkeys(beams):
            found = retriever.search(vectors, k, exclude, beam_width=beam, candidates=candidates, guide=of_judged)
            scored, compared = float(found.scored.mean()) / len(corpus), float(found.walk.compared.mean())
            overlap = shared(found.ranking.documents, exact.documents)
            measured.append(Measured(beam, candidates, scored, compared, means(found.ranking), overlap))
    return measured


def shared(found: IntArray, exact: IntArray) -> float:
    """Share of the documents in rows of ``exact`` that stand in the same row of ``found``."""
    there = [np.isin(e[e != NO_DOCUMENT], f).mean() for f, e in zip(found, exact, strict=True) if (e >= 0).any()]
    return float(np.mean(there)) if there else 1.0


def measured_table(rows: Sequence[Measured]) -> str:
    """The rows as text."""
    names = list(rows[0].values)
    header = ["search", "at most", "documents scored", "tags and clusters compared", *names, "overlap with exact"]
    cells = [
        [
            "exact" if row.beam_width is None else f"beam {row.beam_width}",
            "-" if row.candidates is None else str(row.candidates),
            f"{row.scored:.1%}",
            f"{row.compared:.1f}",
            *(number(row.values[name]) for name in names),
            f"{row.overlap:.1%}",
        ]
        for row in rows
    ]
    return text_table(header, cells)
