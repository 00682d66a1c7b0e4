"""Against a real OpenAI-compatible server: llama.cpp's, with the embedded model, in a process of its own."""

import os
import signal
import socket
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from scipy.stats import spearmanr

from searchrl.data.pydocs import load_pydocs
from searchrl.errors import EngineError
from searchrl.models.encoder import HttpEncoder
from searchrl.models.folders import smollm2_file
from searchrl.models.http_lm import HttpLM
from searchrl.models.language_model import check_language_models
from searchrl.models.lm_cache import CachedLanguageModel, cache_stats
from searchrl.models.prompts import fill, load_prompts
from searchrl.reward.head import HttpReranker
from searchrl.reward.lm import LMReward
from tests.servers.llama_cpp import llama_cpp

pytest.importorskip("xllamacpp", reason="the llama.cpp server comes with the package xllamacpp")


@pytest.fixture(scope="module")
def server():
    with llama_cpp(smollm2_file()) as served:
        yield served.url


@pytest.fixture
def http(server):
    with closing(HttpLM(server, stop_at_newline=True)) as lm:
        yield lm


def test_it_says_who_serves_what(http):
    assert (http.name, http.served.server, http.parameters) == ("smollm2", "llamacpp", 134_515_008)


def test_likelihoods_and_choices_are_transformers_own_but_for_the_numeric_format(http, lm):
    check_language_models(lm, http)
    contexts = ["Passage: Paris is the capital of France.\nQuestion:", "Passage: 中文 é 🙂\nQuestion:", "The capital"]
    continuations = [" what is the capital of France?", " 🙂 naïve?", " of France"]
    np.testing.assert_allclose(
        http.continuation_logprobs(contexts, continuations), lm.continuation_logprobs(contexts, continuations), atol=0.2
    )
    prompts = ["Is Paris in France? Answer Yes or No.", "Rate it from 0 to 9: good"]
    for choices in (["Yes", "No"], [str(digit) for digit in range(10)]):
        ours, theirs = lm.choice_logprobs(prompts, choices), http.choice_logprobs(prompts, choices)
        np.testing.assert_allclose(np.exp(theirs), np.exp(ours), atol=0.1)


def test_documents_are_ranked_as_in_process(http, lm):
    data = load_pydocs()
    documents = [data.corpus.full_text(i) for i in range(0, len(data.corpus), len(data.corpus) // 8)][:8]
    query = data.splits["test"].texts[0]
    ours, theirs = (LMReward(m, "likelihood", load_prompts(), 16).score([query] * 8, documents) for m in (lm, http))
    assert spearmanr(ours, theirs).statistic > 0.9
    assert ours.argmax() == theirs.argmax()


def test_it_writes_one_line_and_the_same_one_again(http):
    prompts = ["Say this in fewer words: the capital city of the country France", "Name a colour."]
    answers = http.generate(prompts, max_new_tokens=12)
    assert all(answers)
    assert "\n" not in "".join(answers)
    assert http.generate(prompts[::-1], max_new_tokens=12) == answers[::-1]


def test_an_answer_goes_on_from_its_beginning(http):
    answers = http.generate([fill("Name a {x}.\n[answer] The capital of France is", x="town")], max_new_tokens=3)
    assert answers[0].startswith("Paris")


def test_a_prompt_longer_than_the_server_reads(http):
    with pytest.raises(EngineError, match=r"refuses the request: 400 .*context"):
        http.generate(["word " * 9000], max_new_tokens=4)


def test_a_server_that_does_not_embed_or_rerank(server):
    with closing(HttpEncoder(server, attempts=1)) as encoder, pytest.raises(EngineError, match="embeddings"):
        encoder.encode(["text"])
    with closing(HttpReranker(server, attempts=1)) as reranker, pytest.raises(EngineError, match="rerank"):
        reranker.score(["query"], ["document"])


def test_embeddings():
    with llama_cpp(smollm2_file(), "embedding") as served, closing(HttpEncoder(served.url, batch_size=2)) as encoder:
        texts = ["a cat sat on a mat", "a cat lay on a rug", "", "inflation of the currency 中文", "a cat sat on a mat"]
        vectors = encoder.encode(texts)
        assert vectors.shape == (5, encoder.dim) == (5, 576)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
        assert vectors[0] @ vectors[4] > 0.98 > vectors[0] @ vectors[1] > vectors[0] @ vectors[3]


def test_a_server_killed_midway_loses_nothing_it_answered_and_the_job_goes_on(tmp_path):
    path = tmp_path / "lm.sqlite"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    contexts = [f"Passage: number {i}." for i in range(40)]
    ending = [" which?"] * 40

    def job(url):
        lm = HttpLM(url, concurrency=4, attempts=2, backoff=0.01)
        return closing(lm), closing(CachedLanguageModel(lm, path, chunk=8))

    with llama_cpp(smollm2_file(), port=port) as served:

        def kill():
            while cache_stats(path).entries < 16:
                time.sleep(0.01)
            os.kill(served.process.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        opened, cached = job(served.url)
        with opened, cached as lm, pytest.raises(EngineError, match=f"{port}.* does not answer"):
            lm.continuation_logprobs(contexts, ending)
        killer.join()
    kept = cache_stats(path).entries
    assert 16 <= kept < 40
    with llama_cpp(smollm2_file(), port=port) as served:
        opened, cached = job(served.url)
        with opened as engine, cached as lm:
            scores = lm.continuation_logprobs(contexts, ending)
            assert (lm.hits, lm.calls) == (kept, 40 - kept)
            np.testing.assert_allclose(scores, engine.continuation_logprobs(contexts, ending), atol=0.05)
