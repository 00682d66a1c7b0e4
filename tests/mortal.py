"""Runs a command in a process of its own, which may die by SIGKILL at a chosen moment."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch.utils.tensorboard", "sentence_transformers", "trl.trainer.reward_trainer", "peft", "datasets", "pandas"]
)
"""What takes seconds to import is imported once, by a process that computes nothing, and each command is its fork."""


def run(
    command: str,
    arguments: Sequence[str],
    folder: Path,
    dies_at: int = 0,
    *,
    cache: Path | None = None,
    scripted: bool = True,
) -> int:
    """Run ``searchrl COMMAND ARGUMENTS`` in ``folder``, with a cache of its own, by default beside it.

    dies_at: before this moment (a file that is about to get its name, answers that are about to be kept, a batch that
    is about to be learned from) it is killed. scripted: what random weights cannot write is written for them. Returns
    how many moments there were. Asserts that it died where it should, and came to a good end otherwise.
    """
    log = folder.parent / f"{folder.name}.log"
    parent, child = CONTEXT.Pipe(duplex=False)
    what = (command, *arguments)
    places = (str(folder), str(cache or f"{folder}.cache"), str(log))
    process = CONTEXT.Process(target=_live, args=(what, places, dies_at, scripted, child))
    process.start()
    child.close()
    moments = parent.recv() if parent.poll(300) and not dies_at else 0
    process.join(300)
    parent.close()
    code = process.exitcode
    process.close()
    assert code == (-signal.SIGKILL if dies_at else 0), f"{' '.join(what)}: exit code {code}\n{log.read_text()}"
    return moments


def _live(what: Sequence[str], places: Sequence[str], dies_at: int, scripted: bool, pipe: Any) -> None:
    (command, *arguments), (folder, cache, log) = what, places
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(stream, standard)
    os.chdir(folder)
    os.environ["SEARCHRL_CACHE"] = os.environ["XDG_CACHE_HOME"] = cache
    moments = 0

    def moment() -> None:
        nonlocal moments
        moments += 1
        if moments == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, told: tuple[Any, ...]) -> None:
        if event == "os.rename" and Path(folder, os.fsdecode(told[1])).is_relative_to(folder):
            moment()

    sys.addaudithook(hook)
    _watch_answers(moment, scripted)
    if "train_lora" in arguments or "train_adpo_lora" in arguments:
        _watch_training(moment)
    importlib.import_module(f"searchrl.cli.{command}").main(arguments)
    pipe.send(moments)


def _watch_answers(moment: Callable[[], None], scripted: bool) -> None:
    """Answers are kept a few at a time."""
    from searchrl.models.lm_cache import AnswerStore, CachedLanguageModel
    from searchrl.models.transformers_lm import TransformersLM

    put = AnswerStore.put

    def watched(self: AnswerStore, *arguments: Any) -> None:
        moment()
        put(self, *arguments)

    def question(self: Any, prompts: Sequence[str], *, seed: int = 0, **settings: Any) -> list[str]:
        return [f"What is {' '.join(p.split()[-12 - seed % 7 : -4])} {len(p)}?" for p in prompts]

    AnswerStore.put = watched  # type: ignore[method-assign]
    if scripted:
        TransformersLM.generate = question  # type: ignore[method-assign,assignment]
    CachedLanguageModel.__init__.__kwdefaults__["chunk"] = 6  # type: ignore[index]


def _watch_training(moment: Callable[[], None]) -> None:
    from searchrl.fitting.trainer import PreferenceTrainer

    step = PreferenceTrainer.training_step

    def watched(self: PreferenceTrainer, *arguments: Any, **settings: Any) -> Any:
        moment()
        return step(self, *arguments, **settings)

    PreferenceTrainer.training_step = watched  # type: ignore[method-assign]
