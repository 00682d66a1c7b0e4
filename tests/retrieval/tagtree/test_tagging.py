from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from searchrl.models.prompts import beginning, load_prompts
from searchrl.retrieval.tagtree.tagging import OFFERED, SHOWN_WORDS, Phrases, chosen_tags, parse, written_tags

PROMPTS = load_prompts()


class Scripted:
    """Writes what stands behind the document's first word; likes the tags that stand in the context."""

    fingerprint = "scripted"

    def __init__(self, answers: dict[str, str] | None = None) -> None:
        self.answers = answers or {}
        self.pairs: list[tuple[str, str]] = []

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0):
        return [next(said for word, said in self.answers.items() if word in prompt) for prompt in prompts]

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]):
        self.pairs += zip(contexts, continuations, strict=True)
        return np.array(
            [-1.0 if t.strip() in c else -4.0 for c, t in zip(contexts, continuations, strict=True)], dtype=np.float32
        )


@pytest.mark.parametrize(
    ("answer", "tags"),
    [
        ("Delta Wings, supersonic flow; lift", ["delta wing", "supersonic flow", "lift"]),
        ("Subjects: heat, Heat.", ["heat"]),
        ("1. Delta wings\n2) lift\n- drag\n* **noise**", ["delta wing", "lift", "drag", "noise"]),
        ("This text is about the flow of air past a wing.", []),
        ("", []),
        ("3, 4.5, !!", []),
    ],
)
def test_what_is_read_in_an_answer(answer: str, tags: list[str]) -> None:
    assert parse(answer) == tags


def test_written_tags_weigh_by_their_place() -> None:
    lm = Scripted({"alpha": "wing, lift, drag", "beta": "lift", "gamma": "wing, heat"})
    found = written_tags(lm, PROMPTS, ["alpha", "delta", "beta", "gamma"], [0, 2, 3], 2, 1.0)
    assert list(found.names) == ["heat", "lift", "wing"], "two of each at most, and nobody asked about 'delta'"
    assert found.weights.toarray().tolist() == [[0, 0.5, 1], [0, 0, 0], [0, 1, 0], [0.5, 0, 1]]
    rare = written_tags(lm, PROMPTS, ["alpha", "delta", "beta", "gamma"], [0, 2, 3], 2, 0.4)
    assert not rare.weights.toarray()[:, 1:].any(), "two of three documents are too many"


def test_chosen_tags_are_those_that_the_document_makes_likelier() -> None:
    from scipy import sparse

    names = ["delta wing", "heat", "paper", "wing"]
    weights = sparse.csr_matrix(np.array([[1, 2, 3, 4], [0, 0, 1, 1]], dtype=np.float32))
    lm = Scripted()
    found = chosen_tags(lm, PROMPTS, ["a delta wing", "paper on a wing"], [0], 2, Phrases(names, weights))
    row = found.weights.toarray()
    assert row[0].tolist() == pytest.approx([3 * 2**0.5, 0, 0, 3])
    assert not row[1].any(), "nobody asked about it"
    assert len(lm.pairs) == 8, "each tag once without the document, once with it"
    lm.pairs.clear()
    chosen_tags(lm, PROMPTS, ["a delta wing", "wing"], [0], 1, Phrases(names, weights))
    assert len(lm.pairs) == 2 * OFFERED, "the best of them only"


def test_a_long_document_is_cut() -> None:
    assert len(beginning("x" * 10_000, SHOWN_WORDS)) < 2000
    assert len(beginning("word " * 10_000, SHOWN_WORDS).split()) < 200
