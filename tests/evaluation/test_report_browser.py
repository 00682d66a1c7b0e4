"""The report in a real browser (Chromium, as Qt WebEngine): it runs, finds, opens, and is not broken into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import browser
from tests.evaluation import report_case as case

ROWS = "[...document.querySelectorAll('#list summary')].map((row) => row.childNodes[1].textContent)"
CHANGES = "[...document.querySelectorAll('#list .change')].map((change) => Number(change.textContent))"
COUNT = "document.getElementById('count').textContent"
OPENED = "document.querySelector('#list details')"


def choose(name: str, value: str) -> list[str]:
    """Change a choice as a user's click would."""
    box, event = f"document.getElementById('{name}')", "new Event('input', { bubbles: true })"
    return ["js", f"({box}.value = '{value}', {box}.dispatchEvent({event}))"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of hostile texts."""
    return case.write(tmp_path_factory.mktemp("browser"), 130)


def browse(page: Path, *steps: list[str], scheme: str = "light") -> list[Any]:
    """Open a page, take steps and return what they gave; no page may complain, or ask for anything but itself."""
    seen = browser.browse(page.as_uri(), *steps, scheme=scheme)
    assert seen.requests == [page.as_uri()]
    return seen.values


def test_worst_losses_come_first_and_a_search_filters(page: Path) -> None:
    values = browse(
        page,
        ["js", ROWS],
        ["js", CHANGES],
        ["js", COUNT],
        ["js", "document.getElementById('search').focus()"],
        ["type", "QUESTION 7"],
        ["js", COUNT],
        ["js", ROWS],
        ["type", " no such word"],
        ["js", COUNT],
        ["js", ROWS],
    )
    rows, changes, count, _, found, filtered, nothing, none = values
    assert (len(rows), count) == (100, "130 of 130 queries")
    assert changes == sorted(changes)
    assert changes[0] < 0
    queries = case.queries(130)
    wanted = [text for name, text in zip(queries.ids, queries.texts, strict=True) if "7" in name + text]
    assert found == f"{len(wanted)} of 130 queries"
    assert sorted(filtered) == sorted(wanted)
    assert (nothing, none) == ("0 of 130 queries", [])


def test_choices_and_more(page: Path) -> None:
    values = browse(
        page,
        ["js", "document.getElementById('more').click()"],
        ["js", f"{ROWS}.length + ' ' + document.getElementById('more').hidden"],
        choose("outcome", "win"),
        ["js", CHANGES],
        choose("outcome", "all"),
        choose("order", "gain"),
        ["js", CHANGES],
        choose("episode", "search, narrow, search, terminate"),
        ["js", COUNT],
        choose("episode", ""),
        ["js", "document.getElementById('in-documents').click()"],
        ["js", "document.getElementById('search').focus()"],
        ["type", "fifth"],
        ["js", COUNT],
    )
    more, wins, gains, paths, documents = (value for value in values if value not in (None, True))
    assert more == "130 true"
    assert wins
    assert min(wins) > 0
    assert gains == sorted(gains, reverse=True)
    assert paths == "33 of 130 queries", "one in four ends there"
    assert documents == "130 of 130 queries", "every ranking has that document"


def test_an_episode_opens_by_keyboard_and_hostile_texts_stay_texts(page: Path) -> None:
    values = browse(
        page,
        ["js", "document.querySelector('#list summary').focus()"],
        ["key", "Return"],
        ["js", f"{OPENED}.open"],
        ["js", f"[...{OPENED}.querySelectorAll('h4')].map((title) => title.textContent)"],
        ["js", f"{OPENED}.textContent"],
        ["js", f"{OPENED}.querySelectorAll('li.relevant').length"],
        ["js", "[document.title, document.querySelectorAll('img, b, iframe').length, document.scripts.length].join()"],
    )
    _, opened, titles, text, relevant, untouched = values
    assert opened is True
    assert titles[0] == "1. search"
    assert titles[-1].endswith(("terminate", "Step limit reached"))
    assert case.HOSTILE[0] in text, "a title, as it is"
    assert relevant > 0
    assert untouched == f"{case.HOSTILE[0]},0,2"


def test_both_colour_schemes(page: Path) -> None:
    colour = ["js", "getComputedStyle(document.body).backgroundColor"]
    assert browse(page, colour, scheme="light") == ["rgb(255, 255, 255)"]
    assert browse(page, colour, scheme="dark") == ["rgb(22, 25, 29)"]
