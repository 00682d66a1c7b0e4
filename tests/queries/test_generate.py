from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from searchrl.data.dataset import Corpus
from searchrl.models.language_model import FloatArray
from searchrl.models.prompts import load_prompts
from searchrl.queries.cleaning import REASONS
from searchrl.queries.generate import PATIENCE, Generator
from searchrl.queries.writing import QuestionWriter, part, sources
from searchrl.retrieval.lexical import LexicalIndex
from tests.queries.scripted import Scripted, by_document, generator_of
from tests.small_models import OverlapReward
from tests.tiny import corpus_of, retriever_of

CORPUS = corpus_of(
    "apples grow on trees in autumn",
    "bears sleep through the cold winter",
    "copper wires carry the current well",
    "deserts are dry and very hot places",
    "eagles nest on cliffs above lakes",
    *(f"zebra zebra zebra zebra {i}" for i in range(25)),
)
ANSWERS = {
    "apples": "Where do apples grow in autumn?",
    "bears": "Which bears sleep in winter?",
    "copper": "What a topic!",
    "deserts": "WHERE do apples grow, in autumn?",
    "eagles": "Which zebra grow?",
}
SEED = 3


class Favours:
    """A judge that likes one document better than all others."""

    fingerprint = "favours"
    absolute = True

    def __init__(self, text: str) -> None:
        self._text = text

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> FloatArray:
        return np.array([float(document == self._text) for document in documents], dtype=np.float32)


def test_every_question_is_kept_or_counted_under_one_reason() -> None:
    order = [document for (document,) in sources("single", CORPUS, retriever_of(CORPUS).index, SEED)]
    assert order.index(0) < order.index(3), "the desert's question is the copy"
    made = generator_of(CORPUS, by_document(ANSWERS), seed=SEED).make("single", 4)
    assert {q.source_ids[0]: q.text for q in made.queries} == {"d0": ANSWERS["apples"], "d1": ANSWERS["bears"]}
    assert [q.id for q in made.queries] == ["single-1", "single-2"]
    assert [q.difficulty for q in made.queries] == [1.0, 1.0]
    assert made.sources == made.asked == 30
    assert made.counts() == {**dict.fromkeys(REASONS, 0), "no question": 26, "duplicate": 1, "not found": 1}
    assert made.missing == 2


def test_difficulty_is_the_ndcg_of_a_plain_dense_search() -> None:
    corpus = corpus_of(
        "red green blue yellow pink", "red green blue brown so", *(f"grey {i} black white {i}" for i in range(20))
    )
    made = generator_of(corpus, by_document({"yellow": "so blue green red?"})).make("single", 3)
    assert [q.difficulty for q in made.queries] == [pytest.approx(0.63093, abs=1e-5)], "second: 1 / log2(3)"


def test_a_smaller_number_gives_the_first_of_a_larger() -> None:
    corpus = corpus_of(*(f"word{i} and thing{i} are in document number {i}" for i in range(40)))

    def answer(prompt: str, *_: object) -> str:
        number = prompt.split("number ")[1].split()[0]
        return f"Where is the word{number} of thing{number}?"

    few = generator_of(corpus, Scripted(answer)).make("single", 5)
    many = generator_of(corpus, Scripted(answer)).make("single", 20)
    assert len(few.queries) == 5
    assert many.queries[:5] == few.queries
    assert few.rejected["surplus"] == few.asked - 5 - few.rejected["not found"] > 0
    assert generator_of(corpus, Scripted(answer), seed=2).make("single", 5).queries != few.queries


def test_it_gives_up_on_a_model_that_asks_nothing() -> None:
    corpus = corpus_of(*(f"this is document number {i}" for i in range(60)))
    made = generator_of(corpus, by_document({})).make("single", 2)
    assert not made.queries
    assert 2 * PATIENCE <= made.sources < 60
    assert made.rejected["no question"] == made.asked


def test_an_adversarial_question_is_not_one_that_its_words_find() -> None:
    corpus = corpus_of(
        "whale songs travel through the deep ocean",
        "ocean ocean ocean ocean ships sail quietly",
        *(f"grey stone {i} lies on dry land {i}" for i in range(15)),
    )
    found = generator_of(corpus, by_document({"": "Why do whale songs travel?"})).make("adversarial", 1)
    assert not [q for q in found.queries if q.source_ids == ["d0"]]
    assert found.rejected["found by its words"] == 1
    led_elsewhere = generator_of(corpus, by_document({"": "Which ships sail the ocean?"}))
    kept = [q for q in led_elsewhere.make("adversarial", 3).queries if q.source_ids == ["d0"]]
    assert [q.type for q in kept] == ["adversarial"]


def test_the_model_does_not_see_the_words_that_an_adversarial_question_must_not_use() -> None:
    lm = by_document({})
    generator_of(CORPUS, lm).make("adversarial", 1)
    assert lm.asked
    assert not [prompt for prompt, _, _ in lm.asked if "apples" in prompt or "bears" in prompt]


def test_a_multi_question_leads_to_both_documents() -> None:
    corpus = corpus_of(
        "the blue whale sings at night in june",
        "the blue whale dives by day in june",
        *(f"grey stone {i} lies on dry land {i}" for i in range(30)),
    )
    answers = {"blue whale": "What has a whale to do in june?"}
    made = generator_of(corpus, by_document(answers)).make("multi", 3)
    assert [sorted(q.source_ids) for q in made.queries] == [["d0", "d1"]]
    assert made.queries[0].difficulty == 1.0
    unfindable = by_document({"blue whale": "grey stone lies dry?"})
    assert not generator_of(corpus, unfindable).make("multi", 3).queries


def test_the_judge_compares_a_source_with_others_at_the_top() -> None:
    corpus = corpus_of(
        "apples grow on trees in autumn", "pears grow on trees in spring", "plums grow on trees in summer"
    )
    lm = {"apples": "Where do the apples grow?"}
    kept = generator_of(corpus, by_document(lm), judge=OverlapReward()).make("single", 1)
    assert [q.source_ids for q in kept.queries] == [["d0"]]
    lost = generator_of(corpus, by_document(lm), judge=Favours(corpus.texts[2])).make("single", 1)
    assert not lost.queries
    assert lost.rejected["judged lower"] == 1
    equal = generator_of(corpus, by_document(lm), judge=Favours("none of them")).make("single", 1)
    assert equal.queries, "no other is liked better by a judge to whom all are alike"


def test_a_question_has_two_words_to_search_for() -> None:
    made = generator_of(CORPUS, by_document({"apples": "What is this of apples?"})).make("single", 4)
    assert made.rejected["vague"] == 1


def test_no_type_repeats_what_another_asked() -> None:
    corpus = corpus_of("apples grow on trees in autumn", "apples apples pears pears plums")
    lm = by_document({"": "Which apples grow best?"})
    generator = generator_of(corpus, lm)
    assert len(generator.make("single", 2).queries) == 1
    assert generator.make("adversarial", 1).rejected["duplicate"] == 2


LONG = Corpus(["d0", "d1"], ["The title", ""], [" ".join(f"w{i}" for i in range(200)), "a short text of few words"])


def writer(lm: Scripted, per_source: int, template: str | None = None) -> QuestionWriter:
    prompts = load_prompts()
    if template:
        object.__setattr__(prompts, "single", template)
    return QuestionWriter(lm, prompts, LONG, LexicalIndex(LONG), per_source, 7)  # type: ignore[arg-type]


def test_questions_of_a_document_differ_in_opening_and_part_and_are_greedy_while_they_do() -> None:
    lm = Scripted(lambda *_: "x")
    drafts = writer(lm, 5).write("single", [(0,)])
    prompts = [prompt for prompt, _, _ in lm.asked]
    assert len(set(prompts)) == len(prompts) == len(drafts) == 5
    assert [prompt.split()[-1] for prompt in prompts] == ["How", "What", "Why", "How", "What"]
    assert all("The title" in prompt for prompt in prompts)
    assert {temperature for _, temperature, _ in lm.asked} == {0.0}


def test_what_would_be_the_same_again_is_sampled_each_time_otherwise() -> None:
    lm = Scripted(lambda prompt, temperature, seed: f"{temperature} {seed}")
    drafts = writer(lm, 5).write("single", [(1,), (0,)])
    short = [draft.text for draft in drafts if draft.source == (1,)]
    assert short[:3] == ["How 0.0 7", "What 0.0 7", "Why 0.0 7"]
    assert [text.split()[:2] for text in short[3:]] == [["How", "0.6"], ["What", "0.6"]]
    lm.asked.clear()
    drafts = writer(lm, 3, "Ask about {document}").write("single", [(1,)])
    assert len({draft.text for draft in drafts}) == 3, "a template without {opening}"


def test_parts_of_a_long_document_overlap_and_reach_its_end() -> None:
    parts = [part(LONG, 0, 80, i) for i in range(5)]
    assert all(len(text.split()) <= 80 and text.startswith("The title ") for text in parts)
    assert parts[0].split()[2] == "w0"
    assert parts[-1].split()[-1] == "w199"
    assert all(set(one.split()[2:]) & set(other.split()[2:]) for one, other in pairwise(parts))
    assert part(LONG, 1, 80, 0) == part(LONG, 1, 80, 3) == "a short text of few words"
    assert len(part(Corpus(["d"], [""], ["x" * 10_000]), 0, 80, 0)) == 640


def test_a_watcher_is_told_of_every_round() -> None:
    seen: list[int] = []
    generator = generator_of(CORPUS, by_document(ANSWERS))
    watched = Generator(generator._writer, generator._filters, 1, lambda made: seen.append(made.sources))
    watched.make("single", 4)
    assert seen == [8, 16, 24, 30]
