import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from searchrl.device import FORMAT_VARIABLE, DeviceChoice, cpu_has_int8, with_dtype
from searchrl.errors import DeviceError
from searchrl.int8 import CALIBRATION, Int8Linear, to_int8
from searchrl.models.encoder import Encoder
from searchrl.models.transformers_lm import TransformersLM

CPU = DeviceChoice("cpu", "float32", "for tests")
needs_int8 = pytest.mark.skipif(not cpu_has_int8("cpu"), reason="this CPU has no fast int8 matrix product in torch")


class Pair(nn.Module):
    """Two layers that read the same tensor and one that reads what they give, with a channel that dwarfs the others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(64, 32, bias=False), nn.Linear(32, 16)

    def forward(self, x):
        return self.c(torch.relu(self.a(x)) + self.b(x))


def inputs(rows, seed=0):
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed))
    x[:, 3] *= 40
    return x


@needs_int8
def test_layers_keep_their_output_and_do_not_look_at_their_neighbours():
    model = Pair()
    x = inputs(50)
    expected = model(x).detach()
    to_int8(model, lambda text: model(inputs(8, seed=len(text))))
    assert all(isinstance(layer, Int8Linear) for layer in (model.a, model.b, model.c))
    with torch.inference_mode():
        got = model(x)
        assert float((got - expected).norm() / expected.norm()) < 0.03
        assert torch.equal(model(x[7:9]), got[7:9])
        assert torch.equal(model(x.reshape(5, 10, 64)).flatten(0, 1), got)
        assert not torch.equal(model(inputs(50, seed=1)), got)


@needs_int8
def test_layers_out_of_reach_and_delicate_ones_stay_as_they_are():
    names = ("used", "unused", "down_proj")
    model = nn.ModuleDict({name: nn.Linear(8, 8) for name in names})
    to_int8(model, lambda text: model["down_proj"](model["used"](torch.ones(1, 8))))
    assert [type(model[name]) for name in names] == [Int8Linear, nn.Linear, nn.Linear]


@needs_int8
def test_the_embedded_language_model_ranks_as_in_float32():
    documents = [text.split(".")[0] for text in CALIBRATION] + ["Mitochondria are the powerhouse of the cell.", "", "x"]
    queries = [" boiling point of water", " read a file line by line", " T cell receptor", " refund a ticket", " Paris"]
    pairs = [(d, q) for d in documents for q in queries]
    exact = TransformersLM("smollm2-135m", CPU)
    rounded = TransformersLM("smollm2-135m", DeviceChoice("cpu", "int8", "for tests"))
    assert exact.fingerprint != rounded.fingerprint
    expected, scores = (lm.continuation_logprobs(*zip(*pairs, strict=True)) for lm in (exact, rounded))
    assert spearmanr(expected, scores).statistic > 0.99
    # Other company, other last bits, some other roundings: noise of the size that rounding itself has.
    alone = [rounded.continuation_logprobs([d], [q])[0] for d, q in pairs[:6]]
    assert np.abs(scores[:6] - alone).mean() < 0.2 < np.ptp(scores) / 40
    assert (scores == rounded.continuation_logprobs(*zip(*pairs, strict=True))).all()


def test_only_likelihoods_are_computed_in_int8_unasked(monkeypatch):
    from searchrl.config import GameConfig, ModelConfig
    from searchrl.experiment.parts import open_models

    monkeypatch.delenv(FORMAT_VARIABLE, raising=False)
    monkeypatch.setattr("searchrl.device.cpu_has_int8", lambda device: device == "cpu")
    monkeypatch.setattr("searchrl.device.cpu_speeds", lambda: {"float32": 1.0, "bfloat16": 0.1, "int8": 1.4})

    def chosen(game=None, **models):
        with open_models(ModelConfig(device="cpu", **models), game or GameConfig()) as opened:
            return {does: lm.choice.dtype for does, lm in opened.language_models.items()}

    rewriting = GameConfig(reformulator="lm+feedback")
    assert chosen() == {"judges": "int8"}
    assert chosen(judge="yes_no") == {"judges": "float32"}
    assert chosen(rewriting) == {"judges": "int8", "writes": "float32"}
    assert chosen(rewriting, judge="graded") == {"judges and writes": "float32"}
    assert chosen(GameConfig(reward="qrels", judge_depth=0)) == {}
    assert chosen(judge="graded", dtype="int8") == {"judges": "int8"}


@needs_int8
def test_the_embedded_encoder_keeps_its_neighbourhoods():
    texts = [*CALIBRATION, "Water boils at 100 degrees.", "csv reader in python", "train ticket refunds"]
    exact, rounded = Encoder(dtype="float32"), Encoder(dtype="int8")
    assert exact.fingerprint != rounded.fingerprint
    expected, vectors = exact.encode(texts), rounded.encode(texts)
    assert (expected * vectors).sum(1).min() > 0.985
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=0.05)


def test_int8_is_chosen_only_where_it_is_fast_and_known_to_do(monkeypatch):
    monkeypatch.setattr("searchrl.device.cpu_has_int8", lambda device: device == "cpu")
    monkeypatch.setattr("searchrl.device.cpu_speeds", lambda: {"float32": 1.0, "bfloat16": 1.9, "int8": 2.0})
    assert with_dtype(CPU, "auto", keeps_int8=True).dtype == "int8"
    assert with_dtype(CPU, "auto", keeps_int8=False).dtype == "float32"
    assert with_dtype(DeviceChoice("cpu", "bfloat16", ""), "auto", keeps_int8=True).dtype == "bfloat16"
    assert with_dtype(DeviceChoice("cuda", "bfloat16", ""), "float32", keeps_int8=True).dtype == "float32"
    assert with_dtype(CPU, "int8", keeps_int8=False).dtype == "int8"
    with pytest.raises(DeviceError, match="int8"):
        with_dtype(DeviceChoice("mps", "float16", ""), "int8", keeps_int8=True)
