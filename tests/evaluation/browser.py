"""Opens a page in a real browser without a screen: ``python browser.py PAGE.html dark|light < STEPS``.

STEPS is JSON: a list of ["js", expression], ["type", text], ["key", name]. Prints JSON: the value of each "js" in
order, what the page wrote to its console, and every address it asked for. Exit code 77: there is no browser here. In a
process of its own, because a browser engine never quite leaves the one it ran in.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

NO_BROWSER = 77
SCHEMES = ("dark", "light")

os.environ |= {
    "QT_QPA_PLATFORM": "offscreen",
    "QTWEBENGINE_DISABLE_SANDBOX": "1",  # containers often forbid it, and the page is our own
    "QTWEBENGINE_CHROMIUM_FLAGS": f"--disable-gpu --blink-settings=preferredColorScheme={SCHEMES.index(sys.argv[2])}",
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


class Page(QWebEnginePage):
    """Keeps what the page writes to its console, errors among it."""

    console: list[str] = []  # noqa: RUF012

    def javaScriptConsoleMessage(self, level, message, line, source) -> None:
        self.console.append(f"{message} ({source}:{line})")


class Requests(QWebEngineUrlRequestInterceptor):
    """Keeps the addresses that the page asks for."""

    addresses: list[str] = []  # noqa: RUF012

    def interceptRequest(self, request) -> None:
        self.addresses.append(request.requestUrl().toString())


def wait(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def main() -> None:
    app = QApplication(["browser"])  # noqa: F841  (lives as long as its name)
    view, requests = QWebEngineView(), Requests()
    page = Page(view)
    page.setUrlRequestInterceptor(requests)
    view.setPage(page)
    view.resize(1200, 900)
    view.show()
    loop = QEventLoop()
    page.loadFinished.connect(loop.quit)
    page.load(QUrl.fromLocalFile(str(Path(sys.argv[1]).resolve())))
    loop.exec()
    answers, values = [], []
    for step, *given in json.load(sys.stdin):
        if step == "js":
            # As JSON, because lists do not come through. Not by eval(), which the page's policy forbids.
            page.runJavaScript(f"JSON.stringify([{given[0]}])", 0, lambda value: (answers.append(value), loop.quit()))
            loop.exec()
            values += json.loads(answers.pop())
        elif step == "type":
            QTest.keyClicks(view.focusProxy(), given[0])
        elif step == "key":
            QTest.keyClick(view.focusProxy(), Qt.Key[f"Key_{given[0]}"])
        wait(100)
    sys.stdout.write(json.dumps({"values": values, "console": page.console, "requests": requests.addresses}))
    sys.stdout.flush()
    os._exit(0)  # without waiting for the engine's own threads


if __name__ == "__main__":
    main()
