from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.cache_dir import cache_dir
from searchrl.data.dataset import Corpus, Dataset
from searchrl.data.query_bank import load_query_bank, read_query_bank
from searchrl.errors import DataError
from searchrl.models.embedded import smollm2_folder
from searchrl.querygen.single import REASONS, Reason, check, choose_documents, clean, generate_single, shown
from tests.command import Shell
from tests.tiny import corpus_of, retriever_of

TEMPLATE = "Read this passage and write a question about its subject.\n\nPassage: {document}\n\nQuestion: What"
DOCUMENT = "Reset the session. The rset command throws away the current mail, its sender, its recipients and its data."

words = st.lists(st.text(alphabet="abcdef", min_size=1, max_size=4), min_size=1, max_size=40)


class Scripted:
    """Answers each prompt as the document in it says."""

    fingerprint = "scripted"

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        return [next(answer for text, answer in self.answers.items() if text in prompt) for prompt in prompts]


@pytest.mark.parametrize(
    ("answer", "question"),
    [
        ("What does rset do?", "What does rset do?"),
        ('\n  1. The question is: "What   does rset do?"\nI hope it helps.', "What does rset do?"),
        ("What does rset do? It resets the session. Why?", "What does rset do?"),
        ("**Question:** What does rset do?", "What does rset do?"),
        ("What a fascinating topic!", "What a fascinating topic!"),
        ("\n \n", ""),
        ("???", "?"),
    ],
)
def test_cleaning_leaves_the_question(answer: str, question: str) -> None:
    assert clean(answer) == question


@given(st.text(alphabet="ab?! \n\"'*-1.:", max_size=60))
def test_a_cleaned_answer_is_one_tidy_line_with_one_question_mark_at_most(answer: str) -> None:
    question = clean(answer)
    assert question == " ".join(question.split())
    assert "?" not in question[:-1]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("What does the rset command do?", None),
        ("", "no question"),
        ("?", "no question"),
        ("What a fascinating topic!", "no question"),
        ("What rset?", "length"),
        (f"What {'very ' * 25}long?", "length"),
        ("What does a question about its subject say?", "echo"),
        ("What is the main idea of this passage?", "about the text"),
        ("What is the answer to this question?", "about the text"),
        ("The rset command throws away the current mail, its sender?", "copied"),
        ("Reset the session?", "copied"),
    ],
)
def test_each_fault_has_its_reason(question: str, reason: Reason | None) -> None:
    assert check(question, DOCUMENT, TEMPLATE) == reason


def test_words_of_the_document_are_neither_echo_nor_about_the_text() -> None:
    document = "DOM: how to save the document and write a question about its subject into a node of its own."
    assert check("How does a parser save the document?", document, TEMPLATE) is None
    assert check("Where do I write a question about its subject?", document, TEMPLATE) is None


@given(words, st.data())
def test_no_stretch_of_the_document_passes(document: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(document) - 1))
    end = data.draw(st.integers(start + 1, len(document)))
    assert check(" ".join(document[start:end]) + "?", " ".join(document), TEMPLATE) in ("copied", "length")


@given(words, words)
def test_what_passes_has_3_to_25_words(question: list[str], document: list[str]) -> None:
    if check(" ".join(question) + "?", " ".join(document), TEMPLATE) is None:
        assert 3 <= len(question) <= 25


@given(st.text(max_size=3000))
def test_what_the_model_is_shown_has_an_end(document: str) -> None:
    text = shown(document)
    assert len(text) <= 640
    assert len(text.split()) <= 80
    assert " ".join(document.split()).startswith(text)


def test_a_sample_repeats_grows_and_leaves_out_short_documents() -> None:
    corpus = corpus_of(*(f"the document number {i} speaks of {i}" for i in range(30)), "too short", "")
    sample = choose_documents(corpus, 10, seed=1)
    assert len(set(sample)) == 10
    assert choose_documents(corpus, 20, seed=1)[:10] == sample
    assert choose_documents(corpus, 10, seed=2) != sample
    assert sorted(choose_documents(corpus, 1000, seed=1)) == list(range(30))
    with pytest.raises(DataError, match="nothing to ask about"):
        choose_documents(corpus_of("too short"), 10, seed=1)


def test_every_question_is_kept_or_counted_under_one_reason() -> None:
    corpus = corpus_of(
        "apples grow on trees in autumn",
        "bears sleep through the cold winter",
        "copper wires carry the current well",
        "deserts are dry and very hot places",
        "eagles nest on cliffs above lakes",
        *(f"zebra zebra zebra zebra {i}" for i in range(25)),
    )
    answers = {
        "apples": "Where do apples grow in autumn?",
        "bears": "Which bears sleep in winter?",
        "copper": "What a topic!",
        "deserts": "WHERE do apples grow, in autumn?",
        "eagles": "Why zebra zebra zebra?",
    }
    made = generate_single(corpus, range(5), Scripted(answers), TEMPLATE, retriever_of(corpus, depth=40))  # type: ignore[arg-type]
    assert [(q.id, q.text, q.source_ids) for q in made.queries] == [
        ("single-d0", answers["apples"], ["d0"]),
        ("single-d1", answers["bears"], ["d1"]),
    ]
    assert [q.difficulty for q in made.queries] == [1.0, 1.0]
    assert made.rejected == {**dict.fromkeys(REASONS, 0), "no question": 1, "duplicate": 1, "not found": 1}
    assert made.asked == 5


def test_difficulty_is_the_ndcg_of_a_plain_dense_search() -> None:
    corpus = corpus_of("red green blue yellow pink", "red green blue", *(f"grey {i} black white" for i in range(20)))
    lm = Scripted({"yellow": "blue green red?"})
    (query,) = generate_single(corpus, [0], lm, "{document}", retriever_of(corpus, depth=40)).queries  # type: ignore[arg-type]
    assert query.difficulty == pytest.approx(0.63093, abs=1e-5), "second: 1 / log2(3)"


def test_the_command_writes_a_bank_that_training_reads(
    shell: Shell, small_folder: Path, small_dataset: Dataset, flags: list[str]
) -> None:
    models = smollm2_folder().parent  # made once for all commands, rather than in every new cache
    assert models.parent == cache_dir()
    if not (shell.cache / "models").exists():
        (shell.cache / "models").symlink_to(models, target_is_directory=True)
    outcome = shell.generate_queries("--dataset", small_folder, "--num-single", 4, "--device", "cpu").ok
    bank = load_query_bank(shell.folder / "runs" / "queries-small.jsonl")
    assert 1 <= len(bank.queries) <= 4
    assert bank.header.model.startswith("smollm2-135m ")
    assert bank.header.seed == 42
    queries = read_query_bank(shell.folder / "runs" / "queries-small.jsonl", small_dataset.corpus)
    sample = [small_dataset.corpus.ids[i] for i in choose_documents(small_dataset.corpus, 4, 42)]
    for query in bank.queries:
        assert query.type == "single"
        assert list(query.source_ids) == [query.id.removeprefix("single-")]
        assert query.source_ids[0] in sample
        assert query.difficulty is not None
        assert 0.0 <= query.difficulty <= 1.0
        assert check(query.text, _text(small_dataset.corpus, query.source_ids[0]), TEMPLATE) is None
        assert query.text in outcome.out
    assert f"{len(queries)} queries; train on it" in outcome.out
    shell.train(*flags, "--episodes", 64, "--query-bank", shell.folder / "runs" / "queries-small.jsonl").ok  # noqa: B018


def test_mistakes_are_said_before_the_model_is_loaded(shell: Shell, small_folder: Path) -> None:
    assert "--num-single 0: must be at least 1" in shell.generate_queries("--num-single", 0).error
    taken = shell.folder / "taken"
    taken.mkdir()
    said = shell.generate_queries("--dataset", small_folder, "--device", "cpu", "--output", taken).error
    assert "taken: is a folder; name a file with --output" in said


def _text(corpus: Corpus, document: str) -> str:
    return corpus.full_text(corpus.position[document])
