"""Opens an address in a real browser without a screen: ``python browser.py ADDRESS dark|light WIDTH < STEPS``.

STEPS is JSON: a list of ["js", expression], ["load", script's path], ["type", text], ["key", name], ["wait",
expression], which waits until it is true. Prints JSON: the value of each "js" in order, what the page wrote to its
console, and every address it asked for. Exit code 77: there is no browser here. In a process of its own, because a
browser engine never quite leaves the one it ran in; tests call ``browse``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_BROWSER = 77
SCHEMES = ("dark", "light")
PATIENCE = 300
"""Tenths of a second to wait for what becomes true."""


@dataclass(frozen=True)
class Seen:
    """What came of the steps."""

    values: list[Any]
    requests: list[str]


def browse(address: str, *steps: list[str], scheme: str = "light", width: int = 1200) -> Seen:
    """Open a page and take steps; it may not complain. width: in pixels. Skips the test where there is no browser."""
    import pytest

    if importlib.util.find_spec("PySide6") is None:
        pytest.skip("no browser: it is an extra, uv pip install 'searchrl[browser]'")
    command = [sys.executable, str(Path(__file__)), address, scheme, str(width)]
    done = subprocess.run(command, input=json.dumps(steps), capture_output=True, text=True, timeout=120)
    if done.returncode == NO_BROWSER:
        pytest.skip(f"no browser can be started here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["console"] == []
    return Seen(seen["values"], seen["requests"])


def main(address: str, scheme: str, width: str) -> None:
    os.environ |= {
        "QT_QPA_PLATFORM": "offscreen",
        "QTWEBENGINE_DISABLE_SANDBOX": "1",  # containers often forbid it, and the page is our own
        "QTWEBENGINE_CHROMIUM_FLAGS": f"--disable-gpu --blink-settings=preferredColorScheme={SCHEMES.index(scheme)}",
    }
    try:
        from PySide6.QtCore import QEventLoop, Qt, QTimer, QUrl
        from PySide6.QtTest import QTest
        from PySide6.QtWebEngineCore import QWebEnginePage, QWebEngineUrlRequestInterceptor
        from PySide6.QtWebEngineWidgets import QWebEngineView
        from PySide6.QtWidgets import QApplication
    except ImportError as error:
        sys.stderr.write(str(error))
        sys.exit(NO_BROWSER)
    console: list[str] = []
    requests: list[str] = []

    class Page(QWebEnginePage):
        def javaScriptConsoleMessage(self, level, message, line, source) -> None:
            console.append(f"{message} ({source}:{line})")

    class Requests(QWebEngineUrlRequestInterceptor):
        def interceptRequest(self, request) -> None:
            requests.append(request.requestUrl().toString())

    def pause(milliseconds: int) -> None:
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    app = QApplication(["browser"])  # noqa: F841  (lives as long as its name)
    view, watching = QWebEngineView(), Requests()
    page = Page(view)
    page.setUrlRequestInterceptor(watching)
    view.setPage(page)
    view.resize(int(width), 900)
    view.show()
    loop = QEventLoop()
    page.loadFinished.connect(loop.quit)
    page.load(QUrl(address))
    loop.exec()

    def value(expression: str) -> Any:
        answers: list[str] = []
        # As JSON, because lists do not come through. Not by eval(), which the page's policy forbids.
        page.runJavaScript(f"JSON.stringify([{expression}])", 0, lambda given: (answers.append(given), loop.quit()))
        loop.exec()
        return json.loads(answers[0])[0]

    values = []
    for step, given in json.load(sys.stdin):
        if step == "js":
            values.append(value(given))
        elif step == "load":
            page.runJavaScript(Path(given).read_text(encoding="utf-8"))
        elif step == "type":
            QTest.keyClicks(view.focusProxy(), given)
        elif step == "key":
            QTest.keyClick(view.focusProxy(), Qt.Key[f"Key_{given}"])
        else:
            left = PATIENCE
            while not value(given):
                left -= 1
                if not left:
                    raise TimeoutError(f"never true: {given}; the page says: {value('document.body.innerText')}")
                pause(100)
        pause(100)
    sys.stdout.write(json.dumps({"values": values, "console": console, "requests": requests}))
    sys.stdout.flush()
    os._exit(0)  # without waiting for the engine's own threads


if __name__ == "__main__":
    main(*sys.argv[1:])
