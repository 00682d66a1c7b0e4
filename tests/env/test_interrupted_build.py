"""A graph's build that was stopped, by whatever and whenever, goes on to the very same graph and repeats nothing."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchrl.data.dataset import QuerySet
from searchrl.env.build import build_graph, obtain_graph
from searchrl.env.game import Game, Rules, State
from searchrl.env.graph import SearchGraph
from searchrl.env.tree import build_tree
from searchrl.reformulate.reformulator import Direction, FeedbackReformulator, Judged
from searchrl.retrieval.ranking import Queries, Ranking
from tests.command import REPOSITORY
from tests.tiny import corpus_of, retriever_of

WORDS = "wind wing heat flow plate shock drag lift gas jet boundary layer supersonic pressure".split()
STEPS = 3
"""Steps in an episode of most tests: 6 states, 3 of them searched."""


class Death(BaseException):
    """Stands for a SIGKILL: nothing handles it."""


class Log:
    """Every call of a model or an index, in order; may die instead of doing the nth."""

    def __init__(self, dies_at: int = 0, before_each: Callable[[], None] = lambda: None) -> None:
        self.calls: list[str] = []
        self.dies_at = dies_at
        self.before_each = before_each

    def __call__(self, name: str) -> None:
        self.before_each()
        if len(self.calls) + 1 == self.dies_at:
            raise Death
        self.calls.append(name)


def texts_of(n: int, words: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, words)) for _ in range(n)]


def queries_of(n: int = 9) -> QuerySet:
    ids = [f"q{i}" for i in range(n)]
    return QuerySet(ids, texts_of(n, 3, 1), {q: {f"d{i}": 1, f"d{i + 9}": 1} for i, q in enumerate(ids)})


def game_of(log: Log, *, judge: bool = True, rewrites: bool = True, depth: int = 12, **rules: Any) -> Game:
    """The game over 40 documents, every call of its parts logged."""
    corpus = corpus_of(*texts_of(40, 6, 0))
    retriever = retriever_of(corpus, share=0.5, depth=depth)
    feedback = FeedbackReformulator(retriever.index)
    search, encode = retriever.search, retriever.encoder.encode

    def logged_search(queries: Queries, exclude: np.ndarray | None = None) -> Ranking:
        log("search")
        return search(queries, exclude)

    def logged_encode(texts: list[str], **how: Any) -> np.ndarray:
        log("encode")
        return encode(texts, **how)

    class Judge:
        fingerprint = "judge"
        absolute = False

        def score(self, queries: list[str], documents: list[str]) -> np.ndarray:
            log("score")
            pairs = zip(queries, documents, strict=True)
            return np.array([len(set(q.split()) & set(d.split())) + len(d) / 100 for q, d in pairs], np.float32)

    class Rewriter:
        """Feedback that also writes, as a language model does."""

        fingerprint = "rewriter"
        lm_calls = 1

        def reformulate(
            self, direction: Direction, original: Queries, current: Queries, last: Ranking, judged: Judged | None
        ) -> Queries:
            log("reformulate")
            new = feedback.reformulate(direction, original, current, last, judged)
            if not rewrites:
                return new
            return Queries([f"{t} {direction}" for t in current.texts], new.vectors, new.terms, new.lexical)

    retriever.search = logged_search  # type: ignore[method-assign]
    retriever.encoder.encode = logged_encode  # type: ignore[method-assign]
    rules = {"max_steps": STEPS, "judge_depth": 10, "trust": (0.0, 0.3) if judge else (0.0,), **rules}
    return Game(corpus, retriever, Rewriter(), Judge() if judge else None, Rules(**rules))


def assert_same(one: SearchGraph, other: SearchGraph) -> None:
    """To the bit."""
    for name in vars(one):
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right, err_msg=name)
        elif name == "gains":
            assert left.keys() == right.keys()
            for source in left:
                np.testing.assert_array_equal(left[source], right[source])
        else:
            assert left == right, name


def left_over(cache: Path) -> list[str]:
    return [path.name for path in (cache / "graphs").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    "rules", [{}, {"judge": False}, {"auto_search": True}, {"fusion": "rrf", "rewrites": False}], ids=str
)
def test_a_stored_build_is_the_one_in_memory_and_costs_the_same(tmp_path: Path, rules: dict[str, Any]) -> None:
    in_memory, stored = Log(), Log()
    whole = build_graph(game_of(in_memory, **rules), queries_of())
    assert_same(whole, obtain_graph(game_of(stored, **rules), queries_of(), tmp_path))
    assert stored.calls == in_memory.calls
    assert not left_over(tmp_path)


def test_killed_at_any_call_it_goes_on_and_repeats_only_the_step_in_flight(tmp_path: Path) -> None:
    log = Log()
    whole = build_graph(game_of(log), queries_of())
    total = len(log.calls)
    assert {"encode", "search", "reformulate", "score"} == set(log.calls)
    for fatal in range(1, total + 1):
        cache = tmp_path / str(fatal)
        killed, resumed = Log(dies_at=fatal), Log()
        with pytest.raises(Death):
            obtain_graph(game_of(killed), queries_of(), cache)
        assert_same(whole, obtain_graph(game_of(resumed), queries_of(), cache))
        again = len(killed.calls) + len(resumed.calls) - total
        assert 0 <= again <= 2, "only the first search asks for three rankings"
        assert not left_over(cache)


@pytest.mark.parametrize("rules", [{}, {"judge": False, "depth": 50}, {"auto_search": True}], ids=str)
def test_in_blocks_of_queries_it_is_the_same_wherever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any]
) -> None:
    whole = build_graph(game_of(Log(), **rules), queries_of())
    monkeypatch.setattr("searchrl.env.build.BLOCK", 4)
    log = Log()
    assert_same(whole, build_graph(game_of(log, **rules), queries_of()))
    assert log.calls.count("encode") == 3, "blocks of 4, 4 and 1"
    total = len(log.calls)
    for fatal in range(2, total + 1, 5):
        cache = tmp_path / str(fatal)
        killed, resumed = Log(dies_at=fatal), Log()
        with pytest.raises(Death):
            obtain_graph(game_of(killed, **rules), queries_of(), cache)
        assert_same(whole, obtain_graph(game_of(resumed, **rules), queries_of(), cache))
        assert 0 <= len(killed.calls) + len(resumed.calls) - total <= 2
        assert not left_over(cache)


def test_blocks_do_not_change_a_stored_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obtain_graph(game_of(Log()), queries_of(), tmp_path / "whole")
    monkeypatch.setattr("searchrl.env.build.BLOCK", 4)
    obtain_graph(game_of(Log()), queries_of(), tmp_path / "blocks")
    one, other = (sorted((tmp_path / name).glob("graphs/*/*")) for name in ("whole", "blocks"))
    assert [(path.name, path.read_bytes()) for path in one] == [(path.name, path.read_bytes()) for path in other]
    assert one


def test_killed_at_any_write_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file and folder is renamed into place: die right before and right after each of these moments."""
    replace = Path.replace
    left = [0]

    def dying(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == 0:
            raise Death
        moved = replace(self, target)
        left[0] -= 1
        if left[0] == 0:
            raise Death
        return moved

    monkeypatch.setattr(Path, "replace", dying)
    game = game_of(Log(), max_steps=2)
    whole = obtain_graph(game, queries_of(), tmp_path / "whole")
    moments = -left[0]
    assert moments > 30
    for moment in range(1, moments + 1, 3):  # of four: before and after, a file and its folder
        cache = tmp_path / str(moment)
        left[0] = moment
        with pytest.raises(Death):
            obtain_graph(game, queries_of(), cache)
        left[0] = 0
        assert_same(whole, obtain_graph(game, queries_of(), cache))
        assert not left_over(cache)


def slow_build(cache: str) -> None:
    """What the process below does until it is killed."""
    log = Log(before_each=lambda: time.sleep(0.05))
    obtain_graph(game_of(log), queries_of(), Path(cache))


def test_a_real_sigkill_leaves_what_was_finished_and_no_lock(tmp_path: Path) -> None:
    code = f"from tests.env.test_interrupted_build import slow_build; slow_build({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("graphs/.*.parts/state-*"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline, "the build did not begin in time"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    log = Log()
    graph = obtain_graph(game_of(log), queries_of(), tmp_path)
    assert_same(build_graph(game_of(Log()), queries_of()), graph)
    assert "encode" not in log.calls
    assert not left_over(tmp_path)


@pytest.mark.parametrize("damaged", ["state-1-0/documents.npy", "state-0-0/meta.json", "scores-1-0/scores.npy"])
def test_damaged_parts_are_discarded_after_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Game, "features", lambda *_: (_ for _ in ()).throw(Death))
        with pytest.raises(Death):
            obtain_graph(game_of(Log()), queries_of(), tmp_path)
    path = next(tmp_path.glob(f"graphs/.*.parts/{damaged}"))
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    log, fresh = Log(), Log()
    graph = obtain_graph(game_of(log), queries_of(), tmp_path)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "damaged" in caplog.text
    assert damaged.split("/")[0] in caplog.text
    assert_same(build_graph(game_of(fresh), queries_of()), graph)
    assert log.calls == fresh.calls


def test_another_graph_does_not_take_over_the_parts(tmp_path: Path) -> None:
    log = Log(dies_at=5)
    with pytest.raises(Death):
        obtain_graph(game_of(log), queries_of(), tmp_path)
    other = game_of(Log(), anchor=0.6)
    assert_same(build_graph(other, queries_of()), obtain_graph(other, queries_of(), tmp_path))
    assert len(left_over(tmp_path)) == 1, "those of the build that was killed"


def test_of_two_builders_one_builds_and_the_other_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    began, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert go_on.wait(60)

    first, second = game_of(Log()), game_of(Log())
    logs = [Log(before_each=hold), Log()]
    graphs: dict[int, SearchGraph] = {}
    for game, log in zip((first, second), logs, strict=True):
        advance = game.advance
        game.advance = lambda *a, log=log, advance=advance: (log("advance"), advance(*a))[1]  # type: ignore[method-assign]

    def build(i: int, game: Game) -> None:
        graphs[i] = obtain_graph(game, queries_of(), tmp_path)

    threads = [threading.Thread(target=build, args=(i, game)) for i, game in enumerate((first, second))]
    threads[0].start()
    assert began.wait(60)
    threads[1].start()
    deadline = time.monotonic() + 60
    while "Waiting" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert logs[0].calls
    assert not logs[1].calls
    assert_same(graphs[0], graphs[1])


def test_a_stored_build_holds_three_situations_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[State]] = []
    alive: list[int] = []
    begin, advance = State.__init__, Game.advance

    def counted(self: State, *fields: Any, **named: Any) -> None:
        begin(self, *fields, **named)
        made.append(weakref.ref(self))

    def counting(self: Game, at: State, *rest: Any) -> State:
        alive.append(sum(ref() is not None for ref in made))
        assert all(isinstance(ranking.documents, np.memmap) for ranking in at.rankings)
        return advance(self, at, *rest)

    monkeypatch.setattr(State, "__init__", counted)
    monkeypatch.setattr(Game, "advance", counting)
    obtain_graph(game_of(Log(), max_steps=7), queries_of(3), tmp_path)
    assert len(alive) == len(build_tree(7)) - 1 == 29
    assert max(alive) <= 3


def test_memory_does_not_grow_with_the_number_of_states(tmp_path: Path) -> None:
    import tracemalloc

    def peak(build: Callable[[Game], SearchGraph], steps: int) -> int:
        game = game_of(Log(), judge=False, depth=200, max_steps=steps, fusion="last")
        gc.collect()
        tracemalloc.start()
        build(game)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    queries = queries_of(200)

    def stored(game: Game) -> SearchGraph:
        return obtain_graph(game, queries, tmp_path)

    def in_memory(game: Game) -> SearchGraph:
        return build_graph(game, queries)

    stored(game_of(Log()))  # whatever is imported late is
    grown, grown_in_memory = (peak(build, 6) - peak(build, 3) for build in (stored, in_memory))
    assert grown < 0.4 * grown_in_memory, "no more than the widest of the graph's arrays"


def test_memory_does_not_grow_with_the_number_of_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    def peak(count: int) -> int:
        game = game_of(Log(), judge=False, depth=200)
        gc.collect()
        tracemalloc.start()
        obtain_graph(game, queries_of(count), tmp_path)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    obtain_graph(game_of(Log()), queries_of(), tmp_path)  # whatever is imported late is
    grown = peak(400) - peak(100)
    monkeypatch.setattr("searchrl.env.build.BLOCK", 52)
    assert peak(404) - peak(104) < 0.3 * grown


def test_progress_counts_situations_and_goes_on_from_where_it_stopped(tmp_path: Path) -> None:
    n, states = len(queries_of()), len(build_tree(STEPS))
    heard: list[tuple[str, str, int, int]] = []
    obtain_graph(game_of(Log()), queries_of(), None, lambda *said: heard.append(said))
    stages = list(dict.fromkeys(h[0] for h in heard))
    steps = [f"{what}, step {step}" for step in range(STEPS + 1) for what in ("playing", "judging")]
    assert stages == [*(s for s in steps if s[0] == "p" or int(s[-1]) % 2), "ranking"], "every second step searches"
    for stage in stages:
        said = [h for h in heard if h[0] == stage]
        assert {h[1] for h in said} == {"pair" if stage.startswith("judging") else "situation"}
        assert (said[0][2], said[-1][2]) == (0, said[-1][3])
    assert sum(h[3] for h in heard if h[0].startswith("playing") and h[2] == h[3]) == n * states
    with pytest.raises(Death):  # queries encoded, three rankings found, judged, a first rewriting done
        obtain_graph(game_of(Log(dies_at=7)), queries_of(), tmp_path)
    resumed: list[tuple[str, str, int, int]] = []
    obtain_graph(game_of(Log()), queries_of(), tmp_path, lambda *said: resumed.append(said))
    assert [said for said in resumed if said not in heard] == [], "and nothing that was done is counted from 0"
    assert len(resumed) < len(heard)
    loaded: list[tuple[str, str, int, int]] = []
    obtain_graph(game_of(Log()), queries_of(), tmp_path, lambda *said: loaded.append(said))
    assert not loaded
