"""What is trained is what judges: the differentiable scores are those of the toolkit's own scorers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, ModelError
from searchrl.fitting.settings import LoraSettings
from searchrl.fitting.trainable import new_head, trainable_reward
from searchrl.fitting.trainer import attach, checkpointed, last_third
from searchrl.models.loader import ModelLoader
from searchrl.reward.registry import ScorerSettings, make_reward

CPU = DeviceChoice("cpu", "float32", "for tests")
QUERIES = ["what is a wing", "red stone", "what is a wing", "how do birds fly over the sea at night", "red stone"]
DOCUMENTS = [
    "a wing lifts",
    "stones are red where iron is",
    "a river runs",
    "birds " * 120,
    "a wing lifts",
]


def both(folder: Path, name: str):
    """The trainable scorer and the toolkit's own."""
    loader = ModelLoader(device="cpu", dtype="float32", cache=False)
    own = make_reward(str(folder), ScorerSettings(name), loader)
    return trainable_reward(str(folder), name, CPU, None, None), own


def differentiable(scorer, network=None) -> np.ndarray:
    encoded = [scorer.encode(q, d) for q, d in zip(QUERIES, DOCUMENTS, strict=True)]
    with torch.no_grad():
        return scorer.forward(network or scorer.network, encoded).numpy()


@pytest.mark.parametrize("name", ["likelihood", "pmi", "graded", "yes_no"])
def test_a_language_models_scores(tiny_lm: Path, name: str) -> None:
    scorer, own = both(tiny_lm, name)
    expected = own.score(QUERIES, DOCUMENTS)
    np.testing.assert_allclose(scorer.score(QUERIES, DOCUMENTS), expected, rtol=1e-6)
    scores = differentiable(scorer)
    if name == "yes_no":
        scores = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(scores, expected, rtol=2e-4, atol=1e-5)
    assert len(set(expected.round(6))) == 5


@pytest.mark.parametrize("kind", ["head", "chat_head"])
def test_a_heads_scores(kind: str, request: pytest.FixtureRequest) -> None:
    scorer, own = both(request.getfixturevalue(kind), "head")
    expected = own.score(QUERIES, DOCUMENTS)
    np.testing.assert_allclose(differentiable(scorer), expected, rtol=2e-4, atol=1e-5)
    assert len(set(expected.round(6))) == 5


@pytest.mark.parametrize(("kind", "name"), [("tiny_lm", "pmi"), ("tiny_lm", "yes_no"), ("chat_head", "head")])
def test_every_part_of_the_adapter_learns_and_the_scorer_uses_it(
    kind: str, name: str, request: pytest.FixtureRequest
) -> None:
    scorer = trainable_reward(str(request.getfixturevalue(kind)), name, CPU, None, None)
    before = scorer.score(QUERIES, DOCUMENTS)
    model = attach(scorer, LoraSettings(r=4, lora_alpha=8), seed=1)
    np.testing.assert_allclose(scorer.score(QUERIES, DOCUMENTS), before, rtol=1e-5, atol=1e-6)
    encoded = [scorer.encode(q, d) for q, d in zip(QUERIES, DOCUMENTS, strict=True)]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # the first update moves one factor of each product, the second the other
        optimizer.zero_grad()
        (scorer.traits.scale * scorer.forward(model, encoded)).square().mean().backward()
        optimizer.step()
    still = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0]
    assert not still
    after = scorer.score(QUERIES, DOCUMENTS)
    assert np.abs(after - before).max() > 1e-4
    model.eval()
    scores = differentiable(scorer, model)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)) if name == "yes_no" else scores, after, rtol=2e-4, atol=1e-5)


def test_a_small_language_model_learns_by_pmi_and_orders_by_likelihood(tiny_lm: Path) -> None:
    learned, own = both(tiny_lm, "auto")
    assert (learned.method, own.method) == ("pmi", "likelihood")
    assert (learned.traits.across, learned.traits.learning_rate) == (True, 3e-3)
    gained, likely = learned.score(QUERIES, DOCUMENTS), own.score(QUERIES, DOCUMENTS)
    np.testing.assert_allclose(gained[0] - gained[2], likely[0] - likely[2], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(gained[1] - gained[4], likely[1] - likely[4], rtol=1e-3, atol=1e-5)


def test_a_third_of_the_layers_where_they_have_names(head: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 8}
    assert last_third(LlamaForCausalLM(LlamaConfig(num_hidden_layers=7, **shape))) == 2
    assert last_third(trainable_reward(str(head), "head", CPU, None, None).network) == 0


def test_only_the_last_layers(tiny_lm: Path, head: Path) -> None:
    scorer = trainable_reward(str(tiny_lm), "likelihood", CPU, None, None)
    model = attach(scorer, LoraSettings(r=4, lora_alpha=8, last_layers=1), seed=1)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all(".layers.1." in name for name in trained), "of two"
    with pytest.raises(ConfigError, match="last_layers 3: the model has 2"):
        attach(scorer, LoraSettings(r=4, lora_alpha=8, last_layers=3), seed=1)
    with pytest.raises(ConfigError, match="needs target_modules"):
        attach(
            trainable_reward(str(head), "head", CPU, None, None), LoraSettings(r=4, lora_alpha=8, last_layers=1), seed=1
        )


@pytest.mark.parametrize("name", ["pmi", "head"])
def test_activations_computed_twice_give_the_same_gradients(name: str, tiny_lm: Path, tmp_path: Path) -> None:
    folder = tiny_lm if name == "pmi" else new_head(str(tiny_lm), tmp_path / "head", 1)

    def learn(checkpointing: bool) -> tuple[dict[str, torch.Tensor], list[bool]]:
        scorer = trainable_reward(str(folder), name, CPU, None, None)
        settings = LoraSettings(r=4, lora_alpha=8, last_layers=1)
        model = attach(scorer, settings, seed=1, checkpointing=checkpointing).train()
        asked: list[bool] = []
        for layer in scorer.network.model.layers:
            layer.register_forward_hook(lambda *seen: asked.append(seen[-1].requires_grad))
        encoded = [scorer.encode(q, d) for q, d in zip(QUERIES, DOCUMENTS, strict=True)]
        scorer.forward(model, encoded).var().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}
        return gradients, asked

    (kept, _), (twice, asked) = learn(False), learn(True)
    assert any(gradient.abs().sum() > 0 for gradient in twice.values())
    assert kept.keys() == twice.keys()
    assert all(torch.equal(kept[n], twice[n]) for n in kept)
    assert asked == [False, True], "nothing is learned below the adapter, so nothing is kept there"


def test_heads_on_a_cpu_compute_activations_twice(tiny_lm: Path, chat_head: Path) -> None:
    lm, chat = (trainable_reward(str(folder), "auto", CPU, None, None) for folder in (tiny_lm, chat_head))
    assert [checkpointed(one, None, "cpu") for one in (lm, chat)] == [False, True]
    assert not checkpointed(chat, None, "cuda")
    assert not checkpointed(chat, False, "cpu")
    assert checkpointed(lm, True, "cuda")
    chat.network.supports_gradient_checkpointing = False
    assert not checkpointed(chat, None, "cpu")
    with pytest.raises(ConfigError, match="gradient_checkpointing: not possible with"):
        checkpointed(chat, True, "cpu")


def test_a_new_head_is_the_same_for_a_seed_and_scores(tiny_lm: Path, tmp_path: Path) -> None:
    one, other, third = (new_head(str(tiny_lm), tmp_path / str(i), seed) for i, seed in enumerate((1, 1, 2)))
    scores = [trainable_reward(str(f), "auto", CPU, None, None).score(QUERIES, DOCUMENTS) for f in (one, other, third)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 0


def test_what_cannot_be_trained_is_said(tiny_lm: Path, head: Path) -> None:
    with pytest.raises(ConfigError, match="int8 cannot be trained"):
        trainable_reward(str(tiny_lm), "auto", DeviceChoice("cpu", "int8", ""), None, None)
    with pytest.raises(ConfigError, match="this model has a head"):
        trainable_reward(str(head), "auto", CPU, 40, None)
    with pytest.raises(ModelError):
        trainable_reward(str(head), "likelihood", CPU, None, None)
    scorer = trainable_reward(str(head), "auto", CPU, None, None)
    with pytest.raises(ConfigError, match="target_modules no_such"):
        attach(scorer, LoraSettings(r=4, lora_alpha=8, target_modules=("no_such",)), seed=1)
