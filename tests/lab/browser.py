"""Pages in a headless browser; their tests are skipped if there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, or the reason why it is not available."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("REMINDING_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH, and REMINDING_CHROMIUM names none")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """An open page, with its error messages and its network requests.

    Args:
        ready: JavaScript that is true once the page is drawn.
        look: options of the page, such as viewport and color_scheme.
    """

    def __init__(self, browser: Any, file: Path, ready: str, **look: Any) -> None:
        self.tab = browser.new_page(**look)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", self.complain)
        self.tab.on("pageerror", self.complain)
        self.tab.on("request", self.note)
        self.tab.goto(file.as_uri(), timeout=120_000)
        self.tab.wait_for_function(ready, timeout=120_000)

    def complain(self, what: Any) -> None:
        self.complaints.append(str(what))

    def note(self, request: Any) -> None:
        self.requests.append(request.url)

    def ask(self, script: str) -> Any:
        return self.tab.evaluate(script)
