import numpy as np
import pytest

from searchrl.errors import EngineError
from searchrl.models.golden import check_encoders, check_language_models, check_scorers


class Shifted:
    """A language model that differs from another by a little, or by more."""

    def __init__(self, lm, nats=0.0, logit=0.0):
        self._lm, self._nats, self._logit = lm, nats, logit
        self.fingerprint = "shifted"

    def generate(self, prompts, *, max_new_tokens, temperature=0.0, seed=0):
        raise NotImplementedError

    def choice_logprobs(self, prompts, choices):
        logits = self._lm.choice_logprobs(prompts, choices) + np.array([self._logit, 0.0], dtype=np.float32)
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def continuation_logprobs(self, contexts, continuations):
        return self._lm.continuation_logprobs(contexts, continuations) - self._nats * np.arange(len(contexts))


def test_small_differences_are_numeric_formats(tiny):
    check_language_models(tiny, tiny)
    check_language_models(tiny, Shifted(tiny, nats=0.02, logit=0.1))


def test_another_likelihood_names_pair_scores_and_cause(tiny):
    with pytest.raises(EngineError, match=r"query is -\d+\.\d+ by the reference and -\d+\.\d+ by .*naïve.*tokenizer"):
        check_language_models(tiny, Shifted(tiny, nats=1.0))
    check_language_models(tiny, Shifted(tiny, nats=1.0), likelihoods=False)


def test_another_answer_in_chat_is_another_template(tiny):
    with pytest.raises(EngineError, match=r"probability of Yes is 0\.\d+ .* 0\.\d+ by the engine .*chat template"):
        check_language_models(tiny, Shifted(tiny, logit=3.0))
    check_language_models(tiny, Shifted(tiny, logit=3.0), chat=False)


def test_no_number_is_no_agreement(tiny):
    with pytest.raises(EngineError, match="nan by the engine"):
        check_language_models(tiny, Shifted(tiny, nats=np.nan))


class Vectors:
    def __init__(self, dim, turn=0.0):
        self._dim, self._turn = dim, turn

    def encode(self, texts, *, kind="document"):
        vectors = np.zeros((len(texts), self._dim), dtype=np.float32)
        vectors[:, 0], vectors[:, 1] = np.cos(self._turn), np.sin(self._turn)
        return vectors


def test_vectors_that_point_elsewhere():
    check_encoders(Vectors(4), Vectors(4, 0.1))
    with pytest.raises(EngineError, match=r"cosine 0\.540 .*pooling"):
        check_encoders(Vectors(4), Vectors(4, 1.0))
    with pytest.raises(EngineError, match="4 dimensions here and 5"):
        check_encoders(Vectors(4), Vectors(5))


class Lengths:
    def __init__(self, more=0.0):
        self._more = more

    def score(self, queries, documents):
        return np.array([len(q) + self._more for q in queries], dtype=np.float32)


def test_scorers():
    check_scorers(Lengths(), Lengths(0.1))
    with pytest.raises(EngineError, match=r"score is 31\.000 by the reference and 32\.000 by the engine.*template"):
        check_scorers(Lengths(), Lengths(1.0))
