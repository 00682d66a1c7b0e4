"""The plain versions do what SearchRL's own do, or the ratios would compare nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import naive
from benchmarks.bench import Bench
from benchmarks.retrieval import bare_search_numpy, bare_search_torch, synthetic_retriever
from searchrl.agent.policy import Policy
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.models.folders import encoder_folder, smollm2_folder
from tests.formats import cosine_tolerance
from tests.models.conftest import random_model
from tests.tiny import WordEncoder
from tests.toy import expected_return, toy_graph


@pytest.mark.parametrize("depth", [1, 10, 60])
def test_every_search_gives_the_same_ranking(depth: int) -> None:
    retriever = synthetic_retriever(WordEncoder(), 60, depth, seed=3)
    vectors = retriever.index.dense.vectors
    queries = retriever.queries(["red green", "blue", "one two three"])
    ours = retriever.search(queries)
    for i, query in enumerate(queries.vectors):
        documents, scores = naive.search(vectors, query, depth)
        assert documents == ours.documents[i].tolist()
        np.testing.assert_allclose(scores, ours.scores[i], atol=1e-6)
    for bare in (bare_search_numpy, bare_search_torch):
        np.testing.assert_array_equal(bare(vectors, queries.vectors, depth), ours.documents)


def test_ties_go_to_the_earlier_document() -> None:
    vectors = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (5, 1))
    assert naive.search(vectors, vectors[0], 5)[0] == [0, 1, 2, 3, 4]


def test_the_encoders_agree(bench: Bench) -> None:
    texts = [bench.dataset.corpus.full_text(i) for i in (0, 5, 9)]
    plain = naive.NaiveEncoder(encoder_folder("all-MiniLM-L6-v2"), "cpu").encode(texts)
    np.testing.assert_allclose(plain, bench.encoder.encode(texts), atol=cosine_tolerance())


def test_the_exact_return_is_the_one_that_the_whole_tree_gives_at_once() -> None:
    torch.manual_seed(1)
    graph = toy_graph(n=4)
    policy = Policy(graph.dim, graph.features.shape[-1])
    torch.nn.init.normal_(policy.action_head.weight, std=0.05)
    tensors = GraphTensors(graph, RewardRules("qrels", step_penalty=0.01))
    gains = graph.state_gains("qrels")
    plain = [float(naive.expected_return(policy, graph, gains, row, 0.01).detach()) for row in range(4)]
    assert np.mean(plain) == pytest.approx(expected_return(policy, tensors), abs=1e-5)
    assert np.ptp(plain) > 1e-3


@pytest.mark.parametrize("estimator", ["reinforce", "exact"])
def test_both_plain_trainers_learn(estimator: str) -> None:
    torch.manual_seed(0)
    graph = toy_graph(n=40, max_steps=4)
    policy = Policy(graph.dim, graph.features.shape[-1])
    policy.standardise(torch.from_numpy(graph.features))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-2)
    chance = torch.Generator().manual_seed(0)
    earned = []
    for _ in range(8):
        rows = torch.randint(0, 40, (16,), generator=chance).tolist()
        if estimator == "exact":
            earned.append(naive.train_batch_exact(policy, optimizer, graph, "qrels", rows))
        else:
            earned.append(naive.train_batch(policy, optimizer, graph, "qrels", rows, chance))
    assert np.mean(earned[-3:]) > np.mean(earned[:2]) + 0.05


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> naive.NaiveLM:
    folder: Path = random_model(tmp_path_factory.mktemp("tiny"), "qwen2")
    shutil.copy(smollm2_folder() / "chat_template.jinja", folder)
    return naive.NaiveLM(folder, "cpu", "float32")


def test_one_prompt_at_a_time_and_the_tokens_of_the_reference(
    tiny: naive.NaiveLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    generate = tiny.model.generate

    def spy(**settings):
        asked.append(settings)
        return generate(**settings)

    monkeypatch.setattr(tiny.model, "generate", spy)
    assert 0 <= tiny.judge("capital of France", "Paris is the capital of France.") <= 1
    assert tiny.reformulate("capital of France")
    assert [call["max_new_tokens"] for call in asked] == [10, 64]
    assert all(call["do_sample"] and len(call["input_ids"]) == 1 for call in asked)


@pytest.mark.parametrize(
    ("answer", "score"), [("7", 0.7), ("Rating: 10/10", 1.0), ("95", 1.0), ("not relevant", 0.5), ("0.", 0.0)]
)
def test_the_judge_reads_the_first_number(
    tiny: naive.NaiveLM, monkeypatch: pytest.MonkeyPatch, answer: str, score: float
) -> None:
    monkeypatch.setattr(tiny, "_sample", lambda prompt, tokens: answer)
    assert tiny.judge("a", "b") == score
