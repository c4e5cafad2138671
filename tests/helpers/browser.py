"""A headless browser for pages on this machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 300_000  # milliseconds: a page of ten figures, or a model that answers, on a busy machine


@contextmanager
def headless(*options: str) -> "Iterator[Browser]":
    """A running Chromium; the test is skipped where there is none. Use it in fixtures of a module at most.

    Playwright keeps an event loop in the thread, and other libraries start theirs there.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *options])
        yield browser
        browser.close()


def new_page(browser: "Browser", **options: Any) -> "Page":
    """An empty page that waits long before it gives up."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    return page
