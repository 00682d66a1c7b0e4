import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from searchrl.errors import ConfigError, EngineError, ModelError
from searchrl.models.language_model import LanguageModel, check_language_models
from searchrl.models.transformers_lm import TransformersLM
from searchrl.models.vllm_lm import VllmLM
from tests.models.conftest import CPU


def test_impossible_sizes_are_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="int8"):
        VllmLM("smollm2-135m", dtype="int8")
    for setting in ("tensor_parallel_size", "pipeline_parallel_size"):
        with pytest.raises(ConfigError, match=f"`{setting}` 0"):
            VllmLM("smollm2-135m", **{setting: 0})


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_way_out_is_named():
    with pytest.raises(ModelError, match=r"pip install .vllm.*engine http.*engine transformers"):
        VllmLM("smollm2-135m", tensor_parallel_size=2)


class Logprob:
    """What vLLM says of one token."""

    def __init__(self, logprob):
        self.logprob = logprob


class SamplingParams:
    """Takes only what ``VllmLM`` may ask for, by vLLM's names."""

    def __init__(self, *, max_tokens, temperature, seed=None, logprob_token_ids=None, prompt_logprobs=None):
        self.max_tokens, self.temperature, self.seed = max_tokens, temperature, seed
        self.logprob_token_ids, self.prompt_logprobs = logprob_token_ids, prompt_logprobs


class LLM:
    """vLLM's engine, computed with transformers: prompts in token ids, one ``RequestOutput`` for each."""

    made = ()
    fails = ""

    def __init__(self, *, model, dtype, trust_remote_code, tensor_parallel_size, pipeline_parallel_size):
        if LLM.fails:
            raise RuntimeError(LLM.fails)
        assert not trust_remote_code
        LLM.made = (*LLM.made, (model, dtype, tensor_parallel_size, pipeline_parallel_size))
        self._lm = TransformersLM(model, CPU)

    def generate(self, prompts, sampling_params, *, use_tqdm):
        assert not use_tqdm
        rows = [prompt["prompt_token_ids"] for prompt in prompts]
        return [self._answer(row, params) for row, params in zip(rows, sampling_params, strict=True)]

    def _answer(self, row, params):
        logprobs = self._logprobs(row)
        scored = [None, *({token: Logprob(float(logprobs[i, token]))} for i, token in enumerate(row[1:]))]
        ids = params.logprob_token_ids or []
        first = {token: Logprob(float(logprobs[-1, token])) for token in ids}
        stream = torch.Generator().manual_seed(params.seed or 0)
        new = []
        while len(new) < params.max_tokens:
            last = self._logprobs([*row, *new])[-1]
            if params.temperature:
                token = int(torch.multinomial((last / params.temperature).softmax(-1), 1, generator=stream))
            else:
                token = int(last.argmax())
            if token == self._lm._tokenizer.eos_token_id:
                break
            new.append(token)
        text = self._lm._tokenizer.decode(new, skip_special_tokens=True)
        output = SimpleNamespace(text=text, token_ids=new, logprobs=[first] if ids else None)
        return SimpleNamespace(outputs=[output], prompt_logprobs=scored if params.prompt_logprobs else None)

    def _logprobs(self, row):
        with torch.inference_mode():
            return self._lm._model(torch.tensor([row])).logits[0].float().log_softmax(-1)


@pytest.fixture
def vllm(monkeypatch):
    """A module of that name with as much of vLLM's documented interface as is used."""
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = LLM, SamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(LLM, "made", ())
    monkeypatch.setattr(LLM, "fails", "")


DOCUMENTS = ["Paris is the capital of France.", "A deque drops old items once it holds maxlen of them.", "中文 é 🙂"]
QUERIES = [" capital of France", "", " 🙂 naïve?"]


def test_the_three_calls_answer_as_in_process(vllm, tiny):
    lm = VllmLM(str(tiny._folder), tensor_parallel_size=2, dtype="float16")
    assert isinstance(lm, LanguageModel)
    assert LLM.made == ()
    contexts, continuations = zip(*[(d, q) for d in [*DOCUMENTS, ""] for q in QUERIES], strict=True)
    ours = tiny.continuation_logprobs(contexts, continuations)
    np.testing.assert_allclose(lm.continuation_logprobs(contexts, continuations), ours, atol=1e-4)
    choices = ["Yes", "No", "7"]
    expected = tiny.choice_logprobs(DOCUMENTS, choices)
    np.testing.assert_allclose(lm.choice_logprobs(DOCUMENTS, choices), expected, atol=1e-4)
    assert lm.generate(DOCUMENTS, max_new_tokens=8) == tiny.generate(DOCUMENTS, max_new_tokens=8)
    assert lm.generate([], max_new_tokens=8) == []
    assert LLM.made == ((str(tiny._folder), "float16", 2, 1),), "started once, when it was first needed"
    assert "tensor x pipeline parallel: 2 x 1" in lm.description
    check_language_models(tiny, lm)


def test_a_prompts_sample_depends_on_the_seed_and_not_on_its_company(vllm, tiny):
    lm = VllmLM(str(tiny._folder))
    together = lm.generate(DOCUMENTS, max_new_tokens=6, temperature=1.0, seed=3)
    assert lm.generate(DOCUMENTS[1:2], max_new_tokens=6, temperature=1.0, seed=3) == together[1:2]
    assert lm.generate(DOCUMENTS, max_new_tokens=6, temperature=1.0, seed=4) != together
    with pytest.raises(ConfigError, match="cannot generate 0 tokens"):
        lm.generate(DOCUMENTS, max_new_tokens=0)


def test_the_first_line_is_all_where_that_was_asked_for(vllm, tiny, monkeypatch):
    lines = VllmLM(str(tiny._folder), stop_at_newline=True)
    whole = VllmLM(str(tiny._folder))
    assert lines.fingerprint != whole.fingerprint
    outputs = [SimpleNamespace(outputs=[SimpleNamespace(text=" \n one \n two ")])]
    monkeypatch.setattr(LLM, "generate", lambda *_, **__: outputs)
    assert lines.generate(["a"], max_new_tokens=4) == ["one"]
    assert whole.generate(["a"], max_new_tokens=4) == ["one \n two"]


def test_whatever_vllm_says_is_one_clear_error(vllm, tiny, monkeypatch):
    monkeypatch.setattr(LLM, "fails", "CUDA out of memory\nand much more")
    with pytest.raises(EngineError, match=r"does not start with .*\(CUDA out of memory\); ask for no more GPUs"):
        VllmLM(str(tiny._folder)).choice_logprobs(["a"], ["Yes", "No"])
    monkeypatch.setattr(LLM, "fails", "")

    def die(*_, **__):
        raise RuntimeError("a worker died")

    monkeypatch.setattr(LLM, "generate", die)
    with pytest.raises(EngineError, match=r"vLLM with .* fails \(a worker died\)"):
        VllmLM(str(tiny._folder)).choice_logprobs(["a"], ["Yes", "No"])
