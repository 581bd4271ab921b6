"""Reports and explanations of runs with hostile names, in a browser: nothing in a name may run or be fetched."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from reminding.lab.explain.legend import Legend
from reminding.lab.explain.page import page as explanation_page
from reminding.lab.report.page import page as report_page
from reminding.lab.report.sections import Lead, Lines, Section
from reminding.lab.show.tables import Table
from tests.lab.browser import FLAGS, NAMES, Tab
from tests.lab.explain.test_page import made_up
from tests.reliability.trials import Tally

RUN = "window.hostile = 1"
NAME = "hostile names in a browser"
HOSTILE = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"--><script>{RUN}</script><!--",
    f"]]><script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f"'><img src=x onerror='{RUN}'>",
    f'" onmouseover="{RUN}" autofocus onfocus="{RUN}',
    f"<svg onload='{RUN}'>",
    f"<body onload='{RUN}'>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"<a href='javascript:{RUN}'>here</a>",
    f"javascript:{RUN}",
    f"${{{RUN}}}",
    f"`;{RUN};`",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e",
    f"&lt;script&gt;{RUN}&lt;/script&gt;",
    f"\u2028;{RUN};\u2029",
    "<meta http-equiv=refresh content='0;url=http://localhost:1/'>",
    "<link rel=stylesheet href=http://localhost:1/x.css><base href=http://localhost:1/>",
    "<style>@import 'http://localhost:1/x.css';</style>",
    "$\\frac$ [bold] [/x] \x1b[31m \x07 \u202e <!--",
)


def hostile_names() -> Tally:
    """Open both kinds of page for each name in a browser of its own; no trials where there is none."""
    found = os.environ.get("REMINDING_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        return Tally(NAME)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=FLAGS)
        tally = opened(browser)
        browser.close()
    return tally


def opened(browser: Any, every: int = 1) -> Tally:
    """Open both kinds of page in a browser, in turn for each name; every so many of these pages."""
    tally = Tally(NAME)
    pages = [(name, kind) for name in HOSTILE for kind in ("report", "explanation")]
    with tempfile.TemporaryDirectory() as place:
        for name, kind in pages[::every]:
            path = Path(place) / f"{kind}.html"
            path.write_text(_report(name) if kind == "report" else _explanation(name), encoding="utf-8")
            problem = _problem(browser, path)
            tally.judge(f"{kind} of {name!r}: {problem}" if problem else "")
    return tally


def _report(name: str) -> str:
    blocks = [Lead([name]), Lines([name]), Lines([name], typed=True), Table(name, [name, "b"], [[name, "1"]])]
    return report_page(name, [Section(name, blocks)], Path())


def _explanation(name: str) -> str:
    names = (name, *"abcdefgh?")
    legend = Legend("tokens", names=names, quiet=(0,), classes=names)
    return explanation_page([replace(made_up(30, legend=legend), name=name)], name)


def _problem(browser: Any, path: Path) -> str:
    """What a page did that it must not."""
    tab = Tab(browser, path, "document.readyState === 'complete'")
    tab.tab.mouse.move(200, 200)
    tab.tab.wait_for_timeout(50)
    outside = [url for url in tab.requests if not url.startswith(("file:", "data:", "blob:"))]
    problem = "its text was run" if tab.ask("'hostile' in window") else ""
    problem = problem or ", ".join([*tab.complaints, *outside])
    tab.tab.close()
    return problem
