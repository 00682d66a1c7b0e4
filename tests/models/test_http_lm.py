from contextlib import closing

import numpy as np
import pytest

from searchrl.errors import ConfigError, EngineError, ModelError
from searchrl.models.http_lm import HttpLM
from searchrl.models.language_model import LanguageModel
from searchrl.models.lm_cache import CachedLanguageModel, cache_stats
from searchrl.models.prompts import fill
from tests.servers.openai import Server, running

DOCUMENTS = ["Paris is the capital of France.", "A deque drops old items once it holds maxlen of them.", "中文 é 🙂"]
QUERIES = [" capital of France", " keep only the last n items seen", " 🙂 naïve?"]
PAIRS = [(d, q) for d in DOCUMENTS for q in QUERIES]


@pytest.fixture
def server(tiny):
    with running(Server(tiny)) as server:
        yield server


@pytest.fixture
def http(server):
    with closing(HttpLM(server.url, attempts=2, backoff=0.01)) as lm:
        yield lm


def test_the_three_calls_answer_as_in_process(http, tiny):
    assert isinstance(http, LanguageModel)
    contexts, continuations = zip(*PAIRS, strict=True)
    ours = tiny.continuation_logprobs(contexts, continuations)
    np.testing.assert_allclose(http.continuation_logprobs(contexts, continuations), ours, atol=1e-4)
    choices = [str(digit) for digit in range(10)]
    np.testing.assert_allclose(
        http.choice_logprobs(DOCUMENTS, choices), tiny.choice_logprobs(DOCUMENTS, choices), atol=1e-4
    )
    assert http.generate(DOCUMENTS, max_new_tokens=8) == tiny.generate(DOCUMENTS, max_new_tokens=8)


def test_an_answer_that_has_begun_goes_on_as_in_process(http, tiny, server):
    prompts = [fill("Name a colour.\n[answer] {x}", x=begun) for begun in ("My favourite colour is", "Light")]
    assert http.generate(prompts, max_new_tokens=8) == tiny.generate(prompts, max_new_tokens=8)


def test_a_server_that_begins_every_answer_itself_sees_the_beginning_in_the_question(http, tiny, server):
    server.owner = "somebody"
    prompt = fill("Name a {x}.\n[answer] My favourite colour is", x="colour")
    asked = "Name a colour.\n\nMy favourite colour is"
    assert http.generate([prompt], max_new_tokens=8) == tiny.generate([asked], max_new_tokens=8)


def test_a_choice_that_is_not_among_the_likeliest_is_weighed_all_the_same(http, tiny, server):
    row = http.choice_logprobs(DOCUMENTS[:1], ["Yes", "No", " rarely"])
    np.testing.assert_allclose(row, tiny.choice_logprobs(DOCUMENTS[:1], ["Yes", "No", " rarely"]), atol=1e-4)
    assert server.asked.count("/v1/chat/completions") > 1


def test_choices_that_begin_alike_are_refused(http):
    with pytest.raises(ModelError, match="'10' apart"):
        http.choice_logprobs(["x"], ["1", "10"])


def test_texts_are_cut_as_in_process(tiny, server):
    with closing(HttpLM(server.url, max_context_tokens=4, max_continuation_tokens=64)) as short:
        one, other = " one two three four", " one two three four five six"
        first, second = short.continuation_logprobs([one, other], [" seven eight"] * 2)
        assert first == second
        ending = " word" * 64
        assert short.continuation_logprobs(["a"], [ending]) == short.continuation_logprobs(["a"], [ending + " x"])


def test_empty_inputs(http):
    assert http.generate([], max_new_tokens=3) == []
    assert http.choice_logprobs([], ["Yes", "No"]).shape == (0, 2)
    assert http.continuation_logprobs([], []).shape == (0,)
    assert http.continuation_logprobs(["text"], [""]).tolist() == [0.0]
    with pytest.raises(ModelError, match="empty context"):
        http.continuation_logprobs([""], ["text"])
    with pytest.raises(ConfigError):
        http.generate(["x"], max_new_tokens=0)


def test_each_prompt_is_sampled_from_a_stream_of_its_own(http):
    alone = http.generate(["one"], max_new_tokens=12, temperature=1.0, seed=3)
    assert http.generate(["two", "one"], max_new_tokens=12, temperature=1.0, seed=3)[1:] == alone
    assert http.generate(["one"], max_new_tokens=12, temperature=1.0, seed=4) != alone


def test_the_fingerprint_names_server_model_and_settings(server, http):
    with closing(HttpLM(server.url, stop_at_newline=True)) as other, closing(HttpLM(server.url, "mine")) as mine:
        assert len({http.fingerprint, other.fingerprint, mine.fingerprint}) == 3
    with closing(HttpLM(server.url + "/v1", "served")) as same:
        assert same.fingerprint == http.fingerprint
    assert http.parameters is None
    assert "served" in http.description
    assert server.url in http.description


@pytest.mark.parametrize("lack", ["tokenizer", "echo", "echo unknown"])
def test_a_server_without_what_likelihoods_need(server, http, lack):
    if lack == "tokenizer":
        server.lacks = ("/tokenize",)
    elif lack == "echo":
        server.ignores = ("echo",)
    else:
        server.lacks = ("/v1/completions",)
    with pytest.raises(EngineError, match=r"vLLM.*the engine transformers|/v1/completions"):
        http.continuation_logprobs(*zip(*PAIRS, strict=True))


def test_a_server_that_gives_no_logprobs_with_chat(server, http):
    server.ignores = ("logprobs",)
    with pytest.raises(EngineError, match="no log-probabilities with chat completions"):
        http.choice_logprobs(["x"], ["Yes", "No"])


def test_a_server_that_ignores_the_bias_cannot_weigh_a_rare_choice(server, http):
    server.ignores = ("logit_bias",)
    with pytest.raises(EngineError, match="does not say how likely"):
        http.choice_logprobs(["x"], ["Yes", " rarely"])


def test_what_was_answered_before_the_server_failed_is_kept(server, tiny, tmp_path):
    path = tmp_path / "lm.sqlite"
    prompts = [f"prompt {i}" for i in range(40)]
    with closing(HttpLM(server.url, concurrency=4, attempts=1)) as lm:
        server.breaks_after = 20
        with closing(CachedLanguageModel(lm, path)) as cache, pytest.raises(EngineError, match="fails with 500"):
            cache.generate(prompts, max_new_tokens=2)
        kept = cache_stats(path).entries
        assert kept == 20
        server.breaks_after = None
        with closing(CachedLanguageModel(lm, path)) as cache:
            assert cache.generate(prompts, max_new_tokens=2) == tiny.generate(prompts, max_new_tokens=2)
            assert (cache.hits, cache.calls) == (kept, 40 - kept)
