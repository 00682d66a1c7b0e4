from hypothesis import given
from hypothesis import strategies as st

from searchrl.models.shared_context import PackedRow, batch_rows, pack

tokens = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)
row = st.builds(PackedRow, tokens, st.lists(tokens, min_size=1, max_size=5))


@given(st.dictionaries(tokens, st.lists(tokens, min_size=1, max_size=30), max_size=5), st.integers(1, 40))
def test_packing_keeps_every_continuation_in_order_and_closes_rows(groups, row_tokens):
    rows = pack(groups, row_tokens)
    for context, continuations in groups.items():
        assert [c for r in rows if r.context == context for c in r.continuations] == continuations
    assert all(len(r) <= row_tokens or len(r.continuations) == 1 for r in rows)


@given(st.lists(row, min_size=1, max_size=4))
def test_each_prediction_sees_the_context_and_its_own_beginning_only(rows):
    batch = batch_rows(rows, fill=0)
    width = batch.input_ids.shape[1]
    ids = batch.input_ids.flatten()
    at = 0
    for i, packed in enumerate(rows):
        for continuation in packed.continuations:
            for k, token in enumerate(continuation):
                place = int(batch.predictors[at])
                seen = batch.attention_mask[i, 0, place % width].nonzero()[:, 0] + i * width
                assert place // width == i
                assert ids[seen].tolist() == [*packed.context, *continuation[:k]]
                assert batch.position_ids.flatten()[seen].tolist() == list(range(len(packed.context) + k))
                assert int(batch.targets[at]) == token
                at += 1
    assert at == len(batch.predictors) == sum(batch.lengths)
