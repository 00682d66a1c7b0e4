from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.data.dataset import QuerySet
from searchrl.env.game import Game, Rules
from searchrl.env.graph import RewardRules
from searchrl.env.search_env import SearchEnv
from searchrl.env.tree import Action
from searchrl.reformulate.reformulator import FeedbackReformulator
from searchrl.retrieval.index import pair_scores, top_terms
from searchrl.retrieval.lexical import LexicalIndex
from tests.tiny import corpus_of, retriever_of

WORDS = ["whale", "shark", "fish", "list", "order", "item"]  # no two share a stem, none is a stopword
TEXT = st.lists(st.sampled_from(WORDS), max_size=8)
CORPUS = st.lists(TEXT, min_size=1, max_size=6)


def plain_bm25(documents: list[list[str]], query: list[str], k1: float = 0.9, b: float = 0.4) -> list[float]:
    """Lucene's BM25, a document and a word at a time; no (k1 + 1) in the numerator."""
    mean = sum(len(d) for d in documents) / len(documents)
    scores = []
    for document in documents:
        counts, score = Counter(document), 0.0
        for word in query:
            df = sum(word in d for d in documents)
            if counts[word]:
                idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                score += idf * counts[word] / (counts[word] + k1 * (1 - b + b * len(document) / mean))
        scores.append(score)
    return scores


def index_of(documents: list[list[str]]) -> LexicalIndex:
    return LexicalIndex(corpus_of(*(" ".join(d) for d in documents)))


@given(CORPUS, st.lists(TEXT, min_size=1, max_size=3))
def test_scores_are_plain_bm25(documents, queries):
    index = index_of(documents)
    scores = index.scores(index.query_terms([" ".join(q) for q in queries]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, [plain_bm25(documents, q) for q in queries], atol=1e-5)


@given(CORPUS, st.lists(TEXT, min_size=1, max_size=3), st.data())
def test_pair_scores_are_the_matching_entries(documents, queries, data):
    index = index_of(documents)
    terms = index.query_terms([" ".join(q) for q in queries])
    one = st.integers(-1, len(documents) - 1)
    width = data.draw(st.integers(1, 4))
    row = st.lists(one, min_size=width, max_size=width)
    asked = np.array(data.draw(st.lists(row, min_size=len(queries), max_size=len(queries))), dtype=np.int32)
    everything = index.scores(terms)
    expected = np.where(asked >= 0, np.take_along_axis(everything, np.maximum(asked, 0), axis=1), 0.0)
    np.testing.assert_allclose(pair_scores(index, terms, asked), expected, atol=1e-6)


@given(CORPUS, st.integers(0, 5), st.data())
def test_the_heaviest_terms_of_a_document(documents, count, data):
    index = index_of(documents)
    chosen = data.draw(st.integers(0, len(documents) - 1))
    terms = top_terms(index, chosen, count)
    weights = index.matrix.toarray()[chosen]
    assert len(set(terms.tolist())) == len(terms) == min(count, np.count_nonzero(weights))
    if len(terms):
        assert (np.diff(weights[terms]) <= 0).all()
        assert weights[terms].min() >= np.delete(weights, terms).max(initial=0.0)


def test_words_are_stemmed_and_lower_case_and_stopwords_do_not_count():
    index = LexicalIndex(corpus_of("Whale was swimming", "the sharks"))
    scores = index.scores(index.query_terms(["the WHALES swim", "was the"]))
    assert scores[0, 0] > 0
    assert scores[0, 1] == 0
    assert not scores[1].any()


def test_titles_count():
    from searchrl.data.dataset import Corpus

    index = LexicalIndex(Corpus(["a", "b"], ["Whales", ""], ["mammals", "fish"]))
    assert index.scores(index.query_terms(["whale"]))[0].argmax() == 0


def test_repeated_and_weighted_words():
    index = index_of([["whale", "shark"], ["shark"]])
    once, twice = index.query_terms(["whale shark", "whale shark shark"])
    assert twice.sum() == 3
    np.testing.assert_allclose(index.scores(twice * 0.5 - once * 0.5), index.scores(index.query_terms(["shark"])) / 2)


def test_unknown_words_and_empty_documents_score_nothing():
    index = index_of([["whale"], []])
    scores = index.scores(index.query_terms(["zebra", "", "whale zebra"]))
    assert not scores[:2].any()
    assert scores[2].tolist() == [pytest.approx(plain_bm25([["whale"], []], ["whale"])[0]), 0.0]


@pytest.mark.parametrize("texts", [("", ""), ("the", "of a")])
def test_a_corpus_without_a_word_finds_nothing(texts: tuple[str, ...]) -> None:
    index = LexicalIndex(corpus_of(*texts))
    terms = index.query_terms(["whale", "the", "_"])
    assert index.scores(terms).tolist() == [[0.0, 0.0]] * 3
    assert not pair_scores(index, terms, np.zeros((3, 1), np.int32)).any()
    assert top_terms(index, 0, 3).size == 0


def best(index: LexicalIndex, query: str) -> int:
    scores = index.scores(index.query_terms([query]))[0]
    assert np.sum(scores == scores.max()) == 1, f"{query}: {scores}"
    return int(scores.argmax())


@pytest.mark.parametrize(
    "documents",
    [
        ("故宫位于北京市中心。", "长城在北京以北。", "茶叶产于云南。"),
        ("京都は日本の古都です。", "寿司は米から作る。", "富士山は高い。"),
        ("น้ำตาลมาจากอ้อย", "ชาปลูกบนภูเขา", "ข้าวกินทุกวัน"),
        ("서울은 한국의 수도이다.", "김치는 배추로 만든다.", "바다는 넓다."),
        ("हिन्दी भारत में बोली जाती है।", "चाय असम में उगती है।", "नमक समुद्र से आता है।"),
        ("Чай растёт в горах.", "Соль добывают в море.", "Уголь горит."),
        ("الشاي ينمو في الجبال", "الملح من البحر", "الفحم يحترق"),
    ],
)
def test_every_script_is_searched_by_its_words(documents: tuple[str, ...]) -> None:
    index = LexicalIndex(corpus_of(*documents))
    for number, text in enumerate(documents):
        assert best(index, text[: len(text) // 2]) == number


def test_the_unicode_form_of_a_word_does_not_matter() -> None:
    index = LexicalIndex(corpus_of("Le cafe\u0301 noir", "L'e\u0301te\u0301 indien", "Ｗｉｄｅ ﬁgures"))
    assert [best(index, query) for query in ("caf\u00e9", "\u00e9t\u00e9", "wide", "figures")] == [0, 1, 2, 2]


def test_a_word_of_one_letter_or_digit_tells_documents_apart() -> None:
    texts = ("Vitamin C prevents scurvy.", "Vitamin D is made by sunlight.", "Vitamin A is needed by the eye.")
    index = LexicalIndex(corpus_of(*texts, "Diabetes of type 1", "Diabetes of type 2", "A diet. A type; a vitamin."))
    asked = ("vitamin C", "vitamin d", "vitamin A", "type 1 diabetes", "type 2 diabetes")
    assert [best(index, query) for query in asked] == [0, 1, 2, 3, 4]


def test_a_letter_weighs_little_and_does_not_make_a_document_longer() -> None:
    documents = ["whale shark", "whale x y z shark", "fish"]
    index = LexicalIndex(corpus_of(*documents))
    whale, x = index.scores(index.query_terms(["whale", "x"]))
    assert whale[0] == whale[1]
    assert 0 < x[1] < whale[1]
    assert not index.scores(index.query_terms(["a", "it's", "don't"])).any()


UNSPACED = {
    "Chinese": (
        ["故宫位于北京市中心，是皇家宫殿。", "长城是古代中国修建的防御工程。", "熊猫主要以竹子为食。"],
        ["故宫在北京的什么位置？", "谁修建了长城？", "熊猫吃什么"],
    ),
    "Japanese": (
        ["富士山は日本で一番高い山です。", "東京タワーは赤い電波塔である。", "寿司は酢飯と魚で作る料理だ。"],
        ["日本で高い山は？", "赤い電波塔の名前", "魚で作る料理"],
    ),
    "Thai": (
        ["กรุงเทพเป็นเมืองหลวงของประเทศไทย", "ช้างเป็นสัตว์บกที่ใหญ่ที่สุด", "ข้าวผัดทำจากข้าวและไข่"],
        ["เมืองหลวงของไทยคืออะไร", "สัตว์บกที่ใหญ่", "อาหารทำจากข้าวและไข่"],
    ),
}


@pytest.mark.parametrize("language", UNSPACED)
def test_queries_in_scripts_without_spaces_find_their_documents(language):
    """By BM25 itself, and as the agent's first search where words decide; nothing else is found by them."""
    documents, queries = UNSPACED[language]
    corpus = corpus_of(
        *documents, *(document for name, (d, _) in UNSPACED.items() if name != language for document in d)
    )
    index = LexicalIndex(corpus)
    assert index.scores(index.query_terms(queries)).argmax(1).tolist() == [0, 1, 2]
    retriever = retriever_of(corpus, share=1.0)
    rules = Rules(max_steps=5)
    game = Game(corpus, retriever, FeedbackReformulator(retriever.index), None, rules)
    asked = QuerySet(["q0", "q1", "q2"], queries, {f"q{i}": {f"d{i}": 1} for i in range(3)})
    env = SearchEnv(game, asked, RewardRules("qrels", 0.0))
    for i in range(3):
        env.reset(options={"query": f"q{i}"})
        env.step(Action.SEARCH)
        *_, reward, terminated, _, _ = env.step(Action.TERMINATE)
        assert terminated
        assert reward == 1.0
        ranking = env.final_ranking()
        assert ranking is not None
        assert ranking.documents[0, 0] == i
