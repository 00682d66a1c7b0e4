from hypothesis import given
from hypothesis import strategies as st

from searchrl.models.shared_prefix import SHORTEST, share_prefixes

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
