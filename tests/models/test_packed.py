from hypothesis import given
from hypothesis import strategies as st

from searchrl.models.tokens import SHORTEST, PackedRow, batch_rows, pack, share_prefixes

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


ANSWER = 99
heads = st.lists(st.integers(0, 3), min_size=1, max_size=20).map(tuple)
prompts = st.lists(st.tuples(heads, heads).map(lambda pair: pair[0] * 2 + pair[1]), max_size=30)


@given(prompts, st.integers(1, 300))
def test_every_prompt_is_in_one_group_and_can_be_read_off_it(prompts, row_tokens):
    groups = share_prefixes(prompts, ANSWER, row_tokens)
    assert sorted(i for group in groups for i in group.places) == list(range(len(prompts)))
    for group in groups:
        assert len(group.row.context) >= 1
        for i, rest in zip(group.places, group.row.continuations, strict=True):
            assert (*group.row.context, *rest) == (*prompts[i], ANSWER)
        if len(group.places) > 1:
            assert len(group.row) <= row_tokens
            assert len(group.row.context) >= SHORTEST


def test_documents_of_one_query_share_instruction_and_query():
    system = tuple(range(10))
    prompts = [(*system, *[query] * 6, *range(document, document + 5)) for query in (1, 2) for document in (20, 30, 40)]
    groups = share_prefixes(prompts, ANSWER)
    assert [len(group.places) for group in groups] == [3, 3]
    assert [len(group.row.context) for group in groups] == [16, 16]
    assert sum(len(group.row) for group in groups) < sum(map(len, prompts)) * 0.6


def test_a_prompt_that_begins_another_and_one_that_repeats():
    long = tuple(range(12))
    groups = share_prefixes([long, long[:10], long], ANSWER)
    assert [(*g.row.context, *rest) for g in groups for rest in g.row.continuations] == [
        (*long[:10], ANSWER),
        (*long, ANSWER),
        (*long, ANSWER),
    ]
