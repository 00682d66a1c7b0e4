from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.reformulate.reformulator import (
    BROADEN,
    NARROW,
    FeedbackReformulator,
    FeedbackSettings,
    Judged,
    Reformulator,
    move,
    move_by_gain,
)
from searchrl.retrieval.ranking import Queries, Ranking
from tests.tiny import corpus_of, ranking_of, retriever_of

RETRIEVER = retriever_of(
    corpus_of("whales sing songs", "whales and sharks swim", "sharks eat fish", "lists keep order", "sort the list")
)
FOUND = st.lists(st.integers(-1, 4), min_size=3, max_size=3)
SHARE = st.floats(0, 1, width=32)
BOTH = FeedbackSettings(3, vector_weight=0.3, lexical_target=1.0, lexical_pull=0.5)


def reformulator(settings: FeedbackSettings) -> FeedbackReformulator:
    return FeedbackReformulator(RETRIEVER.index, settings, settings)


def asked(*texts: str, share: float = 0.0) -> Queries:
    return RETRIEVER.queries(texts, share)


def rows_found(*rows: list[int]) -> Ranking:
    documents = np.array(rows, dtype=np.int32)
    return Ranking(documents, np.zeros(documents.shape, dtype=np.float32))


@given(documents=FOUND, weight=st.floats(-1.0, 0.9))
def test_moved_vectors_stay_unit_and_turn_to_the_documents_or_away(documents, weight):
    before = asked("whales", "order").vectors
    after = move(before, RETRIEVER.index, np.array([documents, [-1, -1, -1]], np.int32), weight)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)
    found = [d for d in documents if d >= 0]
    if found:
        mean = RETRIEVER.index.dense.vectors[found].mean(axis=0)
        line = (1 - weight) * before[0] + weight * mean
        np.testing.assert_allclose(after[0], line / np.linalg.norm(line), atol=1e-5)
        assert np.sign(weight) * (after[0] @ mean - before[0] @ mean) >= -1e-5


@pytest.mark.parametrize("direction", ["narrow", "broaden"])
@given(documents=FOUND, share=SHARE)
def test_weight_zero_changes_nothing(direction, documents, share):
    still = replace(BOTH, vector_weight=0.0, lexical_pull=0.0)
    before = asked("whales swim", share=share)
    after = reformulator(still).reformulate(direction, before, before, rows_found(documents))
    assert list(after.texts) == list(before.texts)
    np.testing.assert_allclose(after.vectors, before.vectors, atol=1e-6)
    np.testing.assert_array_equal(after.terms.toarray(), before.terms.toarray())
    np.testing.assert_array_equal(after.lexical, before.lexical)


@pytest.mark.parametrize("direction", ["narrow", "broaden"])
def test_rows_without_documents_keep_their_vector_and_all_their_words(direction: str) -> None:
    before = asked("whales swim", "fish")
    nothing = rows_found([-1, -1, -1], [1, 2, -1])
    after = reformulator(BOTH).reformulate(direction, before, before, nothing)  # type: ignore[arg-type]
    np.testing.assert_allclose(after.vectors[0], before.vectors[0], atol=1e-6)
    np.testing.assert_array_equal(after.terms.toarray(), before.terms.toarray())
    assert not np.allclose(after.vectors[1], before.vectors[1])


@given(share=SHARE, target=SHARE, strength=SHARE)
def test_the_share_is_pulled_part_of_the_way(share, target, strength):
    settings = replace(BOTH, lexical_target=target, lexical_pull=strength)
    current = asked("whales", share=share)
    after = reformulator(settings).reformulate("broaden", current, current, rows_found([0])).lexical
    assert after.dtype == np.float32
    assert after[0] == pytest.approx(share + strength * (target - share), abs=1e-6)
    assert 0 <= after[0] <= 1


def test_narrow_trusts_meaning_and_broaden_brings_in_the_words() -> None:
    feedback = FeedbackReformulator(RETRIEVER.index)
    current = asked("whales", share=0.4)
    last = RETRIEVER.search(current)
    narrowed = feedback.reformulate("narrow", current, current, last).lexical[0]
    broadened = feedback.reformulate("broaden", current, current, last).lexical[0]
    assert 0.0 <= narrowed < 0.4 < broadened <= 1.0
    assert NARROW.vector_weight < 0 < BROADEN.vector_weight < 0.5, "most of the query stays"


def test_narrow_asks_for_what_was_not_found_yet() -> None:
    query = asked("whales")
    found = rows_found([0])
    feedback = FeedbackReformulator(RETRIEVER.index)
    narrowed = feedback.reformulate("narrow", query, query, found)
    before, after = (RETRIEVER.search(q).documents[0].tolist() for q in (query, narrowed))
    assert before[:2] == [0, 1]
    assert after[0] == 1, "the other document on whales"


def test_only_the_top_documents_give_feedback() -> None:
    current = asked("whales")
    two = reformulator(replace(BOTH, documents=2))
    short = two.reformulate("narrow", current, current, rows_found([1, 2]))
    long = two.reformulate("narrow", current, current, rows_found([1, 2, 4]))
    np.testing.assert_array_equal(short.vectors, long.vectors)


def test_feedback_moves_the_current_query_not_the_original() -> None:
    original, current, last = asked("whales"), asked("order"), rows_found([3])
    after = reformulator(BOTH).reformulate("narrow", original, current, last)
    same = reformulator(BOTH).reformulate("narrow", current, current, last)
    np.testing.assert_array_equal(after.vectors, same.vectors)
    assert list(after.texts) == ["order"]


def test_it_is_a_reformulator_that_calls_no_language_model() -> None:
    feedback: Reformulator = FeedbackReformulator(RETRIEVER.index)
    assert feedback.lm_calls == 0
    current = asked("whales", "order")
    after = feedback.reformulate("narrow", current, current, ranking_of([(0, 1.0)], [(3, 1.0)]))
    assert len(after) == 2


@pytest.mark.parametrize("field", list(FeedbackSettings.__dataclass_fields__))
def test_the_fingerprint_knows_every_setting(field: str) -> None:
    default = FeedbackReformulator(RETRIEVER.index)
    seen = {default.fingerprint}
    for direction, settings in (("narrow", NARROW), ("broaden", BROADEN)):
        changed = replace(settings, **{field: getattr(settings, field) + 1})
        seen.add(replace(default, **{direction: changed}).fingerprint)  # type: ignore[arg-type]
    assert len(seen) == 3
    assert FeedbackReformulator(RETRIEVER.index).fingerprint == default.fingerprint


@given(gains=st.lists(st.sampled_from([0.0, 0.2, 0.9, 1.0, float("nan")]), min_size=3, max_size=3), documents=FOUND)
def test_what_is_approved_pulls_and_what_is_rejected_pushes(gains, documents):
    before, index = asked("whales", "order").vectors, RETRIEVER.index
    rows = np.array([documents, [-1, -1, -1]], np.int32)
    judged = Judged(rows, np.array([gains, [np.nan] * 3], np.float32))
    after = move_by_gain(before, index, judged, approved=0.2, rejected=0.5)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(after[1], before[1], atol=1e-6)
    known = [(g, index.dense.vectors[d]) for g, d in zip(gains, documents, strict=True) if d >= 0 and not np.isnan(g)]
    line = before[0]
    if good := sum(g for g, _ in known):
        line = 0.8 * line + 0.2 * sum(g * v for g, v in known) / good
    if bad := sum(1 - g for g, _ in known):
        line = line - 0.5 * sum((1 - g) * v for g, v in known) / bad
    np.testing.assert_allclose(after[0], line / np.linalg.norm(line), atol=1e-5)


def test_a_judge_that_rejects_all_but_one_sends_narrow_to_its_like() -> None:
    query, feedback = asked("whales sharks"), FeedbackReformulator(RETRIEVER.index)
    found = rows_found([1, 0, 2])
    sure = Judged(found.documents, np.array([[0.0, 0.0, 1.0]], np.float32))
    liked = RETRIEVER.index.dense.vectors[2]
    plain, judged = (feedback.reformulate("narrow", query, query, found, j).vectors[0] for j in (None, sure))
    assert judged @ liked > plain @ liked
