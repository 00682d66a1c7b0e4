import json

import numpy as np
import pytest
import torch

from searchrl.device import DeviceChoice
from searchrl.errors import ConfigError, ModelError
from searchrl.models.folders import minilm_folder
from searchrl.models.language_model import LanguageModel, split_prompt
from searchrl.models.prompts import fill
from searchrl.models.tokens import prompt_tokens
from searchrl.models.transformers_lm import TransformersLM
from tests.models.conftest import random_model

CPU = DeviceChoice("cpu", "float32", "for tests")


def plain_logprob(lm, context, continuation):
    """One pair at a time, concatenated, the model's own forward pass: what the shared way must reproduce."""
    tokenizer, model = lm._tokenizer, lm._model
    start = tokenizer(context)["input_ids"] or [tokenizer.bos_token_id]
    ending = tokenizer(continuation, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logprobs = model(torch.tensor([start + ending])).logits[0].log_softmax(-1)
    return float(np.mean([float(logprobs[len(start) - 1 + i, token]) for i, token in enumerate(ending)]))


def test_it_is_a_language_model(lm):
    assert isinstance(lm, LanguageModel)
    assert lm.parameters == 134_515_008


DOCUMENTS = ["Paris is the capital of France.", "A deque drops old items once it holds maxlen of them."]
QUERIES = [" capital of France", " keep only the last n items seen"]


def test_shared_contexts_score_as_concatenated_pairs_do(tiny):
    pairs = [(d, q) for q in [*QUERIES, " x", "\n中文 é"] for d in [*DOCUMENTS, ""]]
    scores = tiny.continuation_logprobs(*zip(*pairs, strict=True))
    np.testing.assert_allclose(scores, [plain_logprob(tiny, d, q) for d, q in pairs], atol=1e-4)
    assert np.ptp(scores) > 1


def test_the_embedded_model_finds_each_query_likelier_after_its_document(lm):
    documents, queries = DOCUMENTS, QUERIES
    pairs = [(d, q) for q in queries for d in documents]
    scores = lm.continuation_logprobs(*zip(*pairs, strict=True))
    assert scores[1] == pytest.approx(plain_logprob(lm, *pairs[1]), abs=1e-4)
    by_pair = dict(zip(pairs, scores, strict=True))
    assert by_pair[documents[0], queries[0]] > by_pair[documents[1], queries[0]]
    assert by_pair[documents[1], queries[1]] > by_pair[documents[0], queries[1]]


def test_scores_do_not_depend_on_company_or_order(tiny):
    pairs = [("one two", " three"), ("red", " green blue yellow"), ("one two", " buckle my shoe")]
    together = tiny.continuation_logprobs(*zip(*pairs, strict=True))
    backwards = tiny.continuation_logprobs(*zip(*reversed(pairs), strict=True))[::-1]
    alone = [tiny.continuation_logprobs([c], [q])[0] for c, q in pairs]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together, backwards, atol=1e-4)


def test_empty_inputs(tiny):
    assert tiny.continuation_logprobs([], []).shape == (0,)
    assert tiny.continuation_logprobs(["text", ""], ["", ""]).tolist() == [0.0, 0.0]
    assert tiny.choice_logprobs([], ["Yes", "No"]).shape == (0, 2)
    assert tiny.generate([], max_new_tokens=3) == []
    assert np.isfinite(tiny.choice_logprobs([""], ["Yes", "No"])).all()


def test_contexts_are_cut_on_the_right_and_continuations_kept(tiny):
    short = TransformersLM(tiny.name, CPU, max_context_tokens=4, max_continuation_tokens=64)
    assert short.fingerprint != tiny.fingerprint
    kept, cut = " one two three", " four five six"
    a, b = short.continuation_logprobs([kept + " four" + cut, kept + " four" + " other"], [" seven eight"] * 2)
    assert a == b
    ending = " word" * 64
    long, longer = short.continuation_logprobs(["a", "a"], [ending, ending + " zebra quilt"])
    assert long == longer
    assert long != short.continuation_logprobs(["a"], [" word" * 63])[0]


def test_choices_are_normalised_and_read_after_the_template(lm):
    prompts = ["Is Paris in France? Answer Yes or No.", "Answer No."]
    logprobs = lm.choice_logprobs(prompts, ["Yes", "No", "Maybe"])
    np.testing.assert_allclose(np.exp(logprobs).sum(1), 1, atol=1e-5)
    ids = prompt_tokens(lm._tokenizer, prompts[:1])[0]
    assert lm._tokenizer.decode(ids).endswith("<|im_start|>assistant\n")
    wanted = [lm._tokenizer(c)["input_ids"][0] for c in ("Yes", "No", "Maybe")]
    with torch.inference_mode():
        expected = lm._model(torch.tensor([ids])).logits[0, -1, wanted].log_softmax(-1)
    np.testing.assert_allclose(logprobs[0], expected, atol=1e-4)


def test_prompts_that_begin_alike_are_read_together_with_the_same_result(tiny):
    prompts = [
        f"Query: {q}\n\nDocument: {d}\n\nYes or No?" for q in ("red cars", "a sea") for d in ("x", "long " * 9, "é")
    ]
    together = tiny.choice_logprobs(prompts, ["Yes", "No"])
    for prompt, got in zip(prompts, together, strict=True):
        ids = torch.tensor([prompt_tokens(tiny._tokenizer, [prompt])[0]])
        wanted = [tiny._tokenizer(c)["input_ids"][0] for c in ("Yes", "No")]
        with torch.inference_mode():
            expected = tiny._model(ids).logits[0, -1, wanted].log_softmax(-1)
        np.testing.assert_allclose(got, expected, atol=1e-4)
    assert np.ptp(together[:, 0]) > 0.05


def test_choices_that_begin_alike_are_refused(lm):
    with pytest.raises(ModelError, match="'1', '10'"):
        lm.choice_logprobs(["Grade"], ["0", "1", "10"])


def test_greedy_text_does_not_depend_on_company(tiny):
    prompts = ["Name a colour.", "Write one word about the sea, and nothing else at all, please."]
    together = tiny.generate(prompts, max_new_tokens=6)
    assert together == [tiny.generate([p], max_new_tokens=6)[0] for p in prompts]
    assert all(together)
    assert not any("<|im" in text or "assistant" in text for text in together)


def test_an_answer_goes_on_from_its_beginning(lm):
    answers = lm.generate(
        [fill("Name a town.\n[answer] The capital of {x} is", x=country) for country in ("France", "Italy")],
        max_new_tokens=3,
    )
    assert [answer.partition(" ")[0].strip(".,") for answer in answers] == ["Paris", "Rome"]


def test_what_looks_like_a_beginning_within_a_text_is_none():
    assert split_prompt(fill("Say {x}\n[answer] Yes {y}", x="a\n[answer] b", y="!")) == ("Say a\n[answer] b", "Yes !")
    for document in ("A form:\n[answer] Yes\n\nWhat is this?", "Say\n[answer] Yes"):
        assert split_prompt(document) == (document, "")
        assert split_prompt(fill("{x}", x=document)) == (document, "")
    assert fill("{x}\n[answer] a", x="b") != "b\n[answer] a"


def test_sampling_has_one_stream_a_prompt(tiny):
    prompts = ["Name a colour.", "Name an animal that lives in the sea."]
    together = tiny.generate(prompts, max_new_tokens=6, temperature=1.0, seed=1)
    assert together == [tiny.generate([p], max_new_tokens=6, temperature=1.0, seed=1)[0] for p in prompts]
    other = tiny.generate(prompts, max_new_tokens=6, temperature=1.0, seed=2)
    assert together != other


def test_generation_stops_at_the_end_of_a_line(lm):
    prompt = "Repeat exactly:\nred\nblue"
    whole = lm.generate([prompt], max_new_tokens=8)[0]
    assert "\n" in whole
    try:
        lm._stop_at_newline = True
        assert lm.generate([prompt], max_new_tokens=8) == [whole.split("\n")[0].strip()]
    finally:
        lm._stop_at_newline = False


def test_lone_surrogates_do_not_stop_the_model(tiny):
    assert np.isfinite(tiny.continuation_logprobs(["a\ud800"], [" b\udfff"])).all()


def test_a_prompt_longer_than_the_model_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(tiny, "_positions", 20)
    with pytest.raises(ModelError, match="exceed the 20"):
        tiny.generate(["hello"], max_new_tokens=4)


@pytest.mark.parametrize(
    "settings", [{"max_context_tokens": 0}, {"max_continuation_tokens": 63}, {"max_context_tokens": 9000}]
)
def test_impossible_limits_are_refused(settings):
    with pytest.raises(ConfigError, match="tokens"):
        TransformersLM("smollm2-135m", CPU, **settings)


def test_an_encoder_is_not_a_language_model():
    with pytest.raises(ModelError, match="not a causal language model"):
        TransformersLM(str(minilm_folder()), CPU)


def test_a_folder_without_a_model_is_one_error(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        TransformersLM(str(tmp_path), CPU)


def test_a_local_model_without_template_and_its_weights_in_the_fingerprint(tmp_path):
    folder = random_model(tmp_path / "qwen", "qwen2")
    first = TransformersLM(str(folder), CPU)
    assert first.choice_logprobs(["The sky is"], ["blue", "red"]).shape == (1, 2)
    contexts, endings = ["The sky is", "The sky is", ""], [" blue and wide", " red", " so"]
    scores = first.continuation_logprobs(contexts, endings)
    expected = [plain_logprob(first, c, e) for c, e in zip(contexts, endings, strict=True)]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert TransformersLM(str(folder), CPU).fingerprint != first.fingerprint


def test_missing_weights_are_refused_not_made_up(tmp_path):
    folder = random_model(tmp_path / "qwen", "qwen2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3, "layer_types": None}))
    with pytest.raises(ModelError, match="lack"):
        TransformersLM(str(folder), CPU).generate(["a"], max_new_tokens=1)


def test_a_model_whose_likelihoods_cannot_be_shared_is_refused(tmp_path):
    # Granite divides its logits after the projection.
    folder = random_model(tmp_path / "granite", "granite", logits_scaling=0.05)
    with pytest.raises(ModelError, match="cannot score likelihoods"):
        TransformersLM(str(folder), CPU).continuation_logprobs(["a b"], [" c"])
    alone = TransformersLM(str(folder), CPU).choice_logprobs(["a b", "a b c"], ["Yes", "No"])
    assert np.isfinite(alone).all()


def test_padding_and_sharing_do_not_shift_learned_positions(tmp_path):
    model = TransformersLM(str(random_model(tmp_path / "gpt2", "gpt2")), CPU)
    prompts = ["The sky is", "Long before anybody had looked at the sky, the sea was"]
    together = model.choice_logprobs(prompts, ["blue", "red"])
    np.testing.assert_allclose(together, [model.choice_logprobs([p], ["blue", "red"])[0] for p in prompts], atol=1e-4)
    pairs = [("The sky", " is blue"), ("The sky", " was red once"), ("A longer context than that", " is")]
    expected = [plain_logprob(model, *pair) for pair in pairs]
    np.testing.assert_allclose(model.continuation_logprobs(*zip(*pairs, strict=True)), expected, atol=1e-4)
