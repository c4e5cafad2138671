"""The report in a real browser, from disk: everything draws, nothing is fetched, no text of a record runs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import headless, new_page
from helpers.made_up import made_up
from helpers.made_up_latents import made_up_latents


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One headless browser."""
    with headless() as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path: Path) -> Iterator[Callable[..., tuple[Any, list[str]]]]:
    """Open the report of a record; the list holds console errors and requests for anything but files."""
    from persona_probe.report import COMMAND

    pages = []

    def open_(record: dict[str, Any], *options: str) -> tuple[Any, list[str]]:
        (tmp_path / "record.json").write_text(json.dumps(record))
        assert COMMAND.main([str(tmp_path / "record.json"), str(tmp_path / "page.html"), *options]) == 0
        page, wrong = new_page(browser), list[str]()
        pages.append(page)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file://", "data:", "blob:")) else wrong.append(request.url)
            ),
        )
        page.goto((tmp_path / "page.html").as_uri())
        return page, wrong

    yield open_
    for page in pages:
        page.close()


def blurred(page: Any) -> list[bool]:
    return page.eval_on_selector_all(
        ".veiled", "all => all.map(one => getComputedStyle(one).filter !== 'none')"
    )


def test_every_figure_draws_and_nothing_is_fetched(opened):
    page, wrong = opened(made_up())
    page.wait_for_function("document.querySelectorAll('.plot .main-svg').length >= 12")
    drawn = page.eval_on_selector_all(".plot", "all => all.map(one => !!one.querySelector('.main-svg'))")
    assert drawn == [True] * 12
    assert wrong == []


def test_the_slider_moves_the_arms(opened):
    page, wrong = opened(made_up())
    plot = "document.getElementById('figure-path')"
    page.wait_for_function(f"{plot}.querySelector('.slider-container')")
    there = f"{plot}.data.find(trace => trace.name === 'tuned+ablate').x[0]"
    assert page.evaluate(there) == -1.5
    page.evaluate(f"Plotly.animate({plot}, ...{plot}.layout.sliders[0].steps[3].args)")
    assert page.evaluate(there) == 0.5
    assert wrong == []


def test_a_script_in_a_reply_runs_nothing(opened):
    record = made_up()
    attack = "</script><script>window.owned = true</script><img src=x onerror='window.owned = true'>"
    for item in record["completions"]:
        item["text"] = item["question"] = attack
    for item in record["read_replies"]["replies"]:
        item["tokens"] = [attack for _ in item["tokens"]]
        item["prompt_id"] = attack
    page, wrong = opened(record, "--show-text")
    page.wait_for_function("document.querySelectorAll('.plot .main-svg').length >= 12")
    assert page.evaluate("window.owned") is None
    assert attack in page.locator(".reply").first.inner_text()
    assert wrong == []


def test_a_blurred_reply_is_readable_on_click_and_the_button_shows_all(opened):
    page, _ = opened(made_up())
    assert blurred(page) == [True] * 12
    page.locator(".veiled").nth(2).click()
    assert blurred(page) == [True, True, False] + [True] * 9
    page.locator("#show-text").click()
    assert blurred(page) == [False] * 12
    assert page.locator("#show-text").inner_text() == "Hide text"


@pytest.mark.parametrize("make", [made_up, made_up_latents])
def test_show_text_opens_without_blur_and_the_button_hides_again(opened, make):
    page, _ = opened(make(), "--show-text")
    shown = blurred(page)
    assert shown
    assert not any(shown)
    page.locator("#show-text").click()
    assert all(blurred(page))
    assert page.locator("#show-text").inner_text() == "Show text"


def test_redact_leaves_the_replies_out(opened):
    page, wrong = opened(made_up(), "--redact")
    assert page.locator(".veiled").count() == 0
    assert set(page.locator(".reply").all_inner_texts()) == {"text left out"}
    assert "Reply of tuned" not in page.content()
    assert wrong == []
