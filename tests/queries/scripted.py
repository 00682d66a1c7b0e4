"""A language model that answers by what stands in the prompt, and the parts of a generator around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from searchrl.data.dataset import Corpus
from searchrl.models.prompts import load_prompts
from searchrl.queries.generate import Filters, Generator
from searchrl.queries.writing import QuestionWriter
from searchrl.reward.reward_model import RewardModel
from tests.tiny import retriever_of

Answer = Callable[[str, float, int], str]


class Scripted:
    """Answers each prompt by a function of prompt, temperature and seed; keeps what it was asked."""

    fingerprint = "scripted"

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.asked: list[tuple[str, float, int]] = []

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        self.asked += [(prompt, temperature, seed) for prompt in prompts]
        return [self._answer(prompt, temperature, seed) for prompt in prompts]


def by_document(answers: dict[str, str]) -> Scripted:
    """Answers as the text in the prompt says; with no question where it says nothing."""
    return Scripted(lambda prompt, *_: next((said for text, said in answers.items() if text in prompt), "No idea."))


def generator_of(
    corpus: Corpus, lm: Scripted, *, judge: RewardModel | None = None, per_source: int = 1, seed: int = 1
) -> Generator:
    """All parts of a generator over a small corpus."""
    retriever = retriever_of(corpus, depth=40)
    writer = QuestionWriter(lm, load_prompts(), corpus, retriever.index, per_source, seed)  # type: ignore[arg-type]
    return Generator(writer, Filters(corpus, retriever, judge), seed)
