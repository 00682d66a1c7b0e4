"""The commands and the game with another engine than transformers: the same rankings, and clear words when it fails."""

import shutil
from contextlib import closing

import numpy as np
import pytest
import torch

from benchmarks.bench import Bench
from searchrl.agent.policy import Policy
from searchrl.agent.trainer import greedy_episodes
from searchrl.config import DataConfig, EngineConfig, GameConfig, ModelConfig
from searchrl.device import FORMAT_VARIABLE, DeviceChoice
from searchrl.env.build import build_graph
from searchrl.env.graph import GraphTensors, RewardRules
from searchrl.errors import ConfigError, EngineError
from searchrl.models.folders import smollm2_folder
from searchrl.models.transformers_lm import TransformersLM
from tests.models.conftest import random_model
from tests.servers.openai import Server, running

CPU = DeviceChoice("cpu", "float32", "for tests")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model with a chat template: what must hold of any model is seen quickly with this one."""
    path = random_model(tmp_path_factory.mktemp("lm"), "qwen2")
    shutil.copy(smollm2_folder() / "chat_template.jinja", path)
    return str(path)


@pytest.fixture(scope="module")
def server(folder):
    with running(Server(TransformersLM(folder, CPU, stop_at_newline=True))) as server:
        yield server


@pytest.fixture(autouse=True)
def in_order(server):
    server.faults.clear()
    server.lacks, server.breaks_after = (), None


@pytest.fixture
def workbench(small_folder, folder, command_cache, monkeypatch):
    """Makes the parts of a game that a language model judges and rewrites in; they share one index of the corpus."""
    monkeypatch.setenv("SEARCHRL_CACHE", str(command_cache))

    def make(serving=None, judge="likelihood", reformulator="feedback"):
        serving = serving or EngineConfig()
        model = {} if serving.engine == "http" else {"lm": folder, "dtype": "float32"}
        models = ModelConfig(device="cpu", judge=judge, serving=serving, **model)
        rules = GameConfig(reward="lm", max_steps=3, depth=10, trust=(0.3,), reformulator=reformulator)
        return closing(Bench(DataConfig(dataset=str(small_folder)), models, rules, show_progress=False))

    return make


def graph_of(bench):
    return build_graph(bench.game, bench.queries("dev").take(3))


def test_the_agent_ranks_over_http_as_in_process(workbench, server, folder):
    served = EngineConfig(engine="http", base_url=server.url, golden=folder)
    with workbench(reformulator="lm+feedback") as here, workbench(served, reformulator="lm+feedback") as there:
        ours, theirs = graph_of(here), graph_of(there)
        assert "/v1/completions" in server.asked
        assert "/v1/chat/completions" in server.asked
    assert ours.texts == theirs.texts
    assert len({texts[0] for texts in ours.texts}) > 1, "the language model rewrote nothing"
    assert (ours.final == theirs.final).all()
    np.testing.assert_allclose(ours.gains["reward"], theirs.gains["reward"], atol=1e-4)
    torch.manual_seed(0)
    policy = Policy(ours.query_vectors.shape[-1], ours.features.shape[-1], "gru", 8)
    ends = [greedy_episodes(policy, GraphTensors(g, RewardRules("reward", 0.001), True))[0] for g in (ours, theirs)]
    assert ends[0].tolist() == ends[1].tolist()


def test_a_server_that_dies_midway_loses_nothing_and_the_job_goes_on(workbench, server, monkeypatch):
    monkeypatch.setattr("searchrl.models.http_client.HttpClient._pause", lambda self, attempt: 0.0)
    serving = EngineConfig(engine="http", base_url=server.url, concurrency=2)
    pairs = ["a question"] * 30, [f"document number {i}" for i in range(30)]
    with workbench(serving) as bench:
        assert bench.reward_model.lm.fingerprint
        server.breaks_after = 25
        with pytest.raises(EngineError, match="500 out of memory"):
            bench.reward_model.score(*pairs)
    server.breaks_after = None
    with workbench(serving) as bench:
        scores = bench.reward_model.score(*pairs)
        assert bench.reward_model.lm.hits > 5
        assert bench.reward_model.lm.hits + bench.reward_model.lm.calls == 30
    with workbench() as here:
        np.testing.assert_allclose(scores, here.reward_model.score(*pairs), atol=1e-4)


def test_an_engine_that_does_not_agree_is_refused_before_the_work(workbench, server, folder, monkeypatch):
    serving = EngineConfig(engine="http", base_url=server.url, golden=folder)
    monkeypatch.setattr("searchrl.models.language_model.LIKELIHOOD_TOLERANCE", -1.0)
    with workbench(serving) as bench, pytest.raises(EngineError, match="golden check"):
        _ = bench.models


def test_a_server_that_hides_its_models_size_cannot_choose_how_to_judge(workbench, server):
    serving = EngineConfig(engine="http", base_url=server.url)
    with (
        workbench(serving, judge="auto") as bench,
        pytest.raises(ConfigError, match="judge by likelihood"),
    ):
        _ = bench.models


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"engine": "http"}, "needs `base_url`"),
        ({"base_url": "http://x"}, "`base_url` needs `engine` http"),
        ({"engine": "vllm", "engine_model": "x"}, "`engine_model` needs `engine` http"),
        ({"engine": "transformers", "tensor_parallel_size": 2}, "`tensor_parallel_size` above 1 needs `engine` vllm"),
        ({"pipeline_parallel_size": 2}, "`pipeline_parallel_size` above 1 needs `engine` vllm"),
        ({"golden": "smollm2-135m"}, "`golden`"),
        ({"concurrency": 0}, "`concurrency` 0"),
        ({"request_timeout": 0.0}, "`request_timeout`"),
    ],
)
def test_settings_that_contradict_each_other(settings, says):
    with pytest.raises(ConfigError, match=says):
        EngineConfig(**settings)


def test_queries_are_generated_over_http(shell, small_folder, server):
    numbers = "--num-single 1 --num-multi 1 --num-adversarial 0 --queries-per-doc 1"
    flags = f"--dataset {small_folder} {numbers} --device cpu --engine http --base-url {server.url}/v1".split()
    assert "judge by likelihood" in shell.generate_queries(*flags).error
    outcome = shell.generate_queries(*flags, "--judge", "likelihood", "--output", "bank.jsonl")
    assert f"language model that judges and writes: served, served by vllm at {server.url}" in outcome.out
    assert outcome.code == 0 or "asked no question that can be kept" in outcome.error


def test_a_policy_is_trained_over_http_and_evaluated_with_any_engine(shell, small_folder, folder, server, monkeypatch):
    monkeypatch.setenv(FORMAT_VARIABLE, CPU.dtype)  # engines agree only in the same numeric format
    served = f"--engine http --base-url {server.url}"
    game = "--judge likelihood --depth 10 --max-steps 2 --episodes 64 --eval-every 64"
    shell.train(*f"--dataset {small_folder} --device cpu {game} {served}".split()).ok  # noqa: B018
    tables = []
    for name, engine in (("as trained", ""), ("here", f"--engine transformers --lm {folder}")):
        server.asked.clear()
        outcome = shell.eval(*f"--device cpu --num-queries 2 {engine}".split(), "--output-dir", name).ok
        assert ("/v1/completions" in server.asked) == (name == "as trained")
        table = outcome.out[outcome.out.index("2 test queries:") : outcome.out.index("computed:")]
        # What the rerankers find next hangs on the last digits of scores, in which engines differ.
        tables.append([line for line in table.splitlines() if not line.startswith(("adaptive", "dynamic"))])
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--engine http --base-url http://127.0.0.1:9", "http://127.0.0.1:9/v1/models does not answer"),
        ("--engine http --base-url nowhere", "'nowhere' is not an address"),
        ("--engine http --base-url http://x --api-key-env NO_SUCH_KEY", "environment variable NO_SUCH_KEY"),
        ("--engine http", "--base-url"),
        ("--engine vllm --lm smollm2-135m", "pip install 'vllm"),
        ("--engine http --base-url http://x --lm smollm2-135m", "--engine-model"),
    ],
)
def test_what_is_wrong_with_an_engine_is_one_line(shell, small_folder, flags, says, monkeypatch):
    monkeypatch.setattr("searchrl.models.http_client.HttpClient._pause", lambda self, attempt: 0.0)
    command = f"--dataset {small_folder} --device cpu {flags}".split()
    assert says in shell.generate_queries(*command).error
