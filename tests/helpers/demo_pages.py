"""The demo in a process of its own, and what a user does on its page."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
TOKENS = 24


def started(*options: str, module: str = "persona_probe.demo") -> tuple[subprocess.Popen[str], str]:
    """The demo as a user starts it, or another module that serves one, and its address."""
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": path},
    )
    said = []
    for line in process.stderr or []:
        said.append(line)
        if found := re.search(r"open (http://127\.0\.0\.1:\d+)", line):
            return process, found[1]
    raise AssertionError("".join(said))


def ended(process: subprocess.Popen[str]) -> int:
    """Stop the demo; its exit code."""
    process.terminate()  # SIGINT is ignored by what a shell starts in the background
    code = process.wait(30)
    if process.stderr:
        process.stderr.close()
    return code


def ready(page: "Page") -> None:
    """Wait until the page is drawn."""
    page.wait_for_selector("#ask", state="attached")
    page.wait_for_function("document.querySelector('#chart')")


def short(page: "Page", tokens: int = TOKENS) -> None:
    """Fewer new tokens, by the number box beside the slider."""
    page.get_by_label("number input for New tokens").fill(str(tokens))
    page.keyboard.press("Tab")


def asked(page: "Page", press: str = "#ask", *, columns: int = 4) -> list[str]:
    """Press and wait for whole answers; their texts by column."""
    before = page.locator("#status").inner_text()
    page.locator("#status").evaluate("one => one.dataset.seen = '1'")
    page.locator(press).click()
    page.wait_for_function(
        "before => { const text = document.querySelector('#status').innerText; return"
        " text.includes('tokens/s') && text !== before; }",
        arg=before,
    )
    page.wait_for_function("n => document.querySelectorAll('#current .answer').length === n", arg=columns)
    return page.locator("#current .tokens-read").all_inner_texts()


POINTS = (
    "(document.querySelector('#chart .js-plotly-plot')?.data ?? []).reduce((n, trace) => n +"
    " trace.x.length, 0)"
)


def points(page: "Page") -> int:
    """How many points the chart shows."""
    return page.evaluate(POINTS)


def blurred(page: "Page") -> list[bool]:
    """Which of the current replies are blurred."""
    return page.eval_on_selector_all(
        "#current .tokens-read", "all => all.map(one => getComputedStyle(one).filter !== 'none')"
    )
