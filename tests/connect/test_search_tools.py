from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from searchrl.connect.search_tools import SearchTasks
from tests.small_models import small_causal_lm, small_classifier


@pytest.fixture(scope="module")
def tasks(small_folder: Path, command_cache: Path) -> Iterator[SearchTasks]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEARCHRL_CACHE", str(command_cache))
        opened = SearchTasks(str(small_folder), device="cpu", max_calls=3)
    yield opened
    opened.close()


def test_an_episode_searches_and_is_paid_for_what_it_submits(tasks: SearchTasks) -> None:
    tools = tasks()
    query_id, text = tasks.queries.ids[0], tasks.queries.texts[0]
    assert tools.reset(query_id=query_id, prompt="a column of the row") == f"Question: {text}"
    answers = [tools.search(text), tools.narrow(), tools.broaden()]
    assert all(re.match(r"\[\S+\] \S", answer) and answer.count("\n") == 4 for answer in answers)
    assert len(set(answers)) > 1
    with pytest.raises(ValueError, match="no searches are left"):
        tools.search(text)
    assert tools.get_reward() == 0.0
    relevant = sorted(tasks.queries.qrels[query_id].items(), key=lambda item: -item[1])
    tools.submit([one for one, _ in relevant])
    assert tools.get_reward() == pytest.approx(1.0)
    with pytest.raises(ValueError, match="over"):
        tools.submit([])
    tools.reset(query_id=query_id)
    tools.submit(["no such document"])
    assert tools.get_reward() == 0.0


def test_what_cannot_be_called_says_why(tasks: SearchTasks) -> None:
    tools = tasks()
    with pytest.raises(ValueError, match="over"):
        tools.search("before a reset")
    with pytest.raises(ValueError, match="no such query"):
        tools.reset(query_id="nobody")
    assert tools.reset(seed=3) == tasks().reset(seed=3)
    with pytest.raises(ValueError, match="search first"):
        tools.narrow()
    with pytest.raises(ValueError, match="twice"):
        tools.submit(["a", "a"])


def test_only_the_four_tools_are_offered_and_documented(tasks: SearchTasks) -> None:
    from transformers.utils import get_json_schema

    names = {name for name, _ in inspect.getmembers(type(tasks()), inspect.isfunction) if not name.startswith("_")}
    assert names - {"reset", "get_reward"} == {"search", "narrow", "broaden", "submit"}
    for name in names - {"reset", "get_reward"}:
        assert get_json_schema(getattr(tasks(), name))["function"]["description"]


def test_a_reward_model_pays_where_nobody_judged(
    small_folder: Path, command_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCHRL_CACHE", str(command_cache))
    judge = str(small_classifier(tmp_path / "judge"))
    tasks = SearchTasks(str(small_folder), reward="head", reward_model=judge, device="cpu", max_steps=2)
    tools = tasks()
    tools.reset(query_id=tasks.queries.ids[0])
    found = re.findall(r"^\[(\S+)\]", tools.search(tasks.queries.texts[0]), re.MULTILINE)
    tools.submit(found)
    assert 0.0 < tools.get_reward() <= 1.0
    assert tasks.gain(0, ["no such document"]) == 0.0
    tasks.close()


@pytest.mark.filterwarnings("default")  # TRL's own
def test_five_steps_of_grpo(tasks: SearchTasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trl = pytest.importorskip("trl", reason="needs the extra 'train'")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.chat_template_utils import qwen3_chat_template

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    model = small_causal_lm(tmp_path / "lm", "qwen2")  # knows nothing, but is one in form
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.chat_template = qwen3_chat_template
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path / "out"),
        max_steps=5,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=24,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        processing_class=tokenizer,
        args=arguments,
        reward_funcs=lambda completions, **_: [float(len(str(one)) % 7) for one in completions],
        train_dataset=Dataset.from_list(tasks.rows()),
        environment_factory=tasks,
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )
    trainer.train()
    assert trainer.state.global_step == 5
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 5
    assert any("tools/call_frequency" in entry for entry in logged), json.dumps(logged[0])
