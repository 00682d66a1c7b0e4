import numpy as np
import pytest

from searchrl.errors import EngineError
from searchrl.models.language_model import check_language_models


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
