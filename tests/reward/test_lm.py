from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, ModelError
from searchrl.models.language_model import FloatArray
from searchrl.models.prompts import load_prompts
from searchrl.models.transformers_lm import TransformersLM
from searchrl.reward.lm import GRADES, LMReward, Method

PROMPTS = load_prompts()
RAIN = "clouds hold water and let it fall as rain"
CHEESE = "cheese is made from the milk of cows"
QUERY = "why does rain fall from clouds"


class WordCounter:
    """A language model that finds text likelier the more of the query's words its prompt has, and keeps its prompts."""

    fingerprint = "word-counter"

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        raise AssertionError("a judge samples nothing")

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        self.prompts += prompts
        liking = np.array([p.count("rain") + p.count("clouds") - 2.0 for p in prompts])
        yes_first = np.linspace(1.0, 0.0, len(choices)) if "Yes" in choices else np.linspace(0.0, 1.0, len(choices))
        logits = liking[:, None] * 3.0 * yes_first
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), dtype=np.float32)

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        self.prompts += contexts
        pairs = zip(contexts, continuations, strict=True)
        misses = [sum(w not in c.split() for w in q.split()) / max(1, len(q.split())) for c, q in pairs]
        return -np.array(misses, dtype=np.float32)


class Fixed(WordCounter):
    """Gives the log-probabilities it was made with."""

    def __init__(self, logprobs: Sequence[float]) -> None:
        super().__init__()
        self.logprobs = np.array(logprobs, dtype=np.float32)

    def choice_logprobs(self, prompts: Sequence[str], choices: Sequence[str]) -> FloatArray:
        assert len(choices) == len(self.logprobs)
        return np.tile(self.logprobs, (len(prompts), 1))

    def continuation_logprobs(self, contexts: Sequence[str], continuations: Sequence[str]) -> FloatArray:
        return np.resize(self.logprobs, len(contexts))


METHODS: list[Method] = ["yes_no", "graded", "likelihood", "pmi"]


@pytest.mark.parametrize("method", METHODS)
def test_the_document_that_answers_scores_higher_wherever_it_stands(method: Method) -> None:
    reward = LMReward(WordCounter(), method, PROMPTS)
    scores = reward.score([QUERY] * 3, [CHEESE, RAIN, CHEESE])
    assert scores.shape == (3,)
    assert scores.dtype == np.float32
    assert scores[1] > scores[0] == scores[2]


def test_only_probabilities_are_absolute() -> None:
    absolute = {method: LMReward(WordCounter(), method, PROMPTS).absolute for method in METHODS}
    assert absolute == {"yes_no": True, "graded": True, "likelihood": False, "pmi": False}


def test_yes_no_is_the_probability_of_yes() -> None:
    reward = LMReward(Fixed(np.log([0.8, 0.2]).tolist()), "yes_no", PROMPTS)
    np.testing.assert_allclose(reward.score([QUERY], [RAIN]), [0.8], rtol=1e-6)


def test_graded_is_the_expected_grade_over_nine() -> None:
    distribution = np.zeros(len(GRADES))
    distribution[[3, 9]] = 0.5
    with np.errstate(divide="ignore"):
        reward = LMReward(Fixed(np.log(distribution).tolist()), "graded", PROMPTS)
    np.testing.assert_allclose(reward.score([QUERY], [RAIN]), [(0.5 * 3 + 0.5 * 9) / 9], rtol=1e-6)


def test_pmi_is_the_likelihood_less_that_of_each_query_by_itself() -> None:
    lm = WordCounter()
    queries, documents = [QUERY, "what is cheese", QUERY], [RAIN, CHEESE, CHEESE]
    likelihood, pmi = (LMReward(lm, method, PROMPTS) for method in ("likelihood", "pmi"))
    expected = likelihood.score(queries, documents) - likelihood.score(queries, [""] * 3)
    np.testing.assert_allclose(pmi.score(queries, documents), expected, atol=1e-6)


@given(st.lists(st.floats(-30, 0), min_size=len(GRADES), max_size=len(GRADES)))
def test_grades_stay_between_0_and_1_and_a_higher_certain_grade_scores_higher(logits: list[float]) -> None:
    normal = np.array(logits) - np.log(np.exp(logits).sum())
    (score,) = LMReward(Fixed(normal.tolist()), "graded", PROMPTS).score([QUERY], [RAIN])
    assert 0.0 <= score <= 1.0
    expected = float(np.exp(normal) @ np.arange(len(GRADES)) / (len(GRADES) - 1))
    assert score == pytest.approx(expected, abs=1e-5)


def test_grades_begin_differently() -> None:
    assert len({grade[0] for grade in GRADES}) == len(GRADES)


@pytest.mark.parametrize("method", METHODS)
def test_documents_are_cut_and_braces_in_them_are_left_alone(method: Method) -> None:
    lm = WordCounter()
    reward = LMReward(lm, method, PROMPTS, max_document_words=3)
    reward.score(["what is {x}"], ["one {query} three four"])
    assert "one {query} three" in lm.prompts[0]
    assert "four" not in lm.prompts[0]


def test_one_unbroken_string_is_cut_too() -> None:
    lm = WordCounter()
    LMReward(lm, "likelihood", PROMPTS, max_document_words=3).score([QUERY], ["a" * 10_000])
    assert lm.prompts[0].count("a") < 60


@pytest.mark.parametrize("method", METHODS)
def test_no_pairs_no_scores(method: Method) -> None:
    assert LMReward(WordCounter(), method, PROMPTS).score([], []).shape == (0,)


def test_fingerprint_follows_what_scores_depend_on(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[judge]\nyes_no = "{query}|{document}"', encoding="utf-8")
    mine = load_prompts(tmp_path / "p.toml")
    lm = WordCounter()
    names = [LMReward(lm, method, PROMPTS).fingerprint for method in METHODS]
    names += [LMReward(lm, "yes_no", mine).fingerprint, LMReward(lm, "yes_no", PROMPTS, 40).fingerprint]
    assert len(set(names)) == len(names)
    assert LMReward(lm, "graded", mine).fingerprint == names[1]


@pytest.mark.parametrize("method", METHODS)
def test_a_score_that_is_no_number_is_an_error_not_a_score(method: Method) -> None:
    width = {"yes_no": 2, "graded": len(GRADES)}.get(method, 1)
    with pytest.raises(ModelError, match=f"no finite score for the query '{QUERY}'"):
        LMReward(Fixed([float("nan")] * width), method, PROMPTS).score([QUERY], [RAIN])


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown reward method 'yes-no': did you mean 'yes_no'"):
        LMReward(WordCounter(), "yes-no", PROMPTS)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_document_words 0"):
        LMReward(WordCounter(), "yes_no", PROMPTS, max_document_words=0)


def test_the_embedded_model_tells_a_fitting_document_from_a_foreign_one() -> None:
    smollm2 = TransformersLM("smollm2-135m", DeviceChoice("cpu", "float32", "for tests"))
    scores = LMReward(smollm2, "likelihood", PROMPTS).score([QUERY] * 2, [CHEESE, RAIN])
    assert scores[1] > scores[0]
    assert (scores < 0).all()
    gained = LMReward(smollm2, "pmi", PROMPTS).score([QUERY] * 3, [CHEESE, RAIN, ""])
    assert gained[1] - gained[0] == pytest.approx(scores[1] - scores[0], abs=1e-5)
    assert gained[2] == 0.0
    for method in METHODS[:2]:
        scores = LMReward(smollm2, method, PROMPTS).score([QUERY] * 2, [CHEESE, RAIN])
        assert ((scores > 0) & (scores < 1)).all()
