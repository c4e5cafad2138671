"""What notebooks show: our tags only, whatever a model says; blurred until asked for, or left out."""

import sys
from typing import Any

import pytest
from helpers.made_up import made_up, made_up_record
from helpers.made_up_latents import made_up_latent_record, meanings
from helpers.made_up_parts import arm, judged
from helpers.markup import Shown
from helpers.payloads import PAYLOADS
from helpers.present import present

from persona_probe.records.parts import Side

TAGS = {"div", "style", "p", "b", "br", "small", "span", "table", "thead", "tbody", "tr", "th", "td"}
HOSTILE = (
    *PAYLOADS,
    "</div></div><p>out",
    "</style><b>x</b>",
    "**bold** [x](javascript:alert(1))",
    "a\nb\tc",
    "' onclick='x",
)


def ours(page: Any) -> Shown:
    """The parsed output, after checking that nothing but our markup is in it."""
    shown = Shown(page._repr_html_())
    assert {tag for tag, _ in shown.tags} <= TAGS
    assert shown.tags[0] == ("div", {"class": "persona-probe"})  # what the style is for
    for _, attributes in shown.tags:
        assert not {name for name in attributes if name.startswith("on") or name in ("href", "src", "id")}
        if "veiled" in (attributes.get("class") or "").split():
            assert attributes["tabindex"] == "0"
    return shown


def said(*texts: str, names: tuple[str, ...] = ("base", "tuned"), asked: str = "question?") -> Any:
    """Answers of some arms that all say the same."""
    from persona_probe.api.asking import Answers
    from persona_probe.measurement.streaming import Token

    return Answers(
        asked,
        tuple(arm_named(name) for name in names),
        tuple(tuple(Token(i, text, 0.5, 1.0) for text in texts) for i in range(len(names))),
    )


def arm_named(name: str) -> Any:
    """An arm that does what arms of its name do: `base` and `tuned` are untouched."""
    import torch

    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.arms import Arm

    edits = () if name in ("base", "tuned") else (Steer(torch.ones(4), "blocks.0.hook_out", 1.0),)
    return Arm(name, "base" if name.startswith("base") else "tuned", edits)


@pytest.mark.parametrize("attack", HOSTILE)
def test_nothing_a_model_says_becomes_markup(attack: str) -> None:
    from persona_probe.api.cells import replies_to
    from persona_probe.pages.cells import arms_table, contexts, say
    from persona_probe.prompts.contrast import Question, Reply

    def pages(word: str) -> list[Any]:
        row = example(word, [word], [1.0], None)
        return [
            said(word, names=("base", word), asked=word).show(notes={word: word, "base": word}),
            replies_to(Question("q", "test", word, (Reply(word, "aligned"), Reply(word, "misaligned")))),
            contexts({"base": [row], "tuned": [row]}),
            say(word),
            arms_table(
                with_arms(judged(arm(word, "tuned", None, 0.5, 0.1, moved=0.1), "partial", because=word))
            ),
        ]

    def tags(word: str) -> list[list[str]]:
        return [[tag for tag, _ in ours(page).tags] for page in pages(word)]

    assert tags(attack) == tags("x")


@pytest.mark.parametrize("control", ["\u202e", "\u2066", "\x1b", "\x00"])
def test_characters_that_act_are_made_visible(control: str) -> None:
    from persona_probe.pages.cells import say

    for page in (said(f"a{control}b").show(), say(f"a{control}b")):
        assert control not in page._repr_html_()
        assert control not in repr(page)


def test_only_the_untouched_base_speaks_plainly() -> None:

    page = said("secret", names=("base", "tuned", "tuned+ablate", "base+steer", "base +3")).show()
    shown = ours(page)
    assert shown.text(veiled=True).count("secret") == 4
    assert shown.text(veiled=False).count("secret") == 1
    assert "secret" not in repr(page)
    assert "secret" not in repr(said("secret"))


def test_blur_is_in_the_output_itself() -> None:

    html = said("secret").show()._repr_html_()
    style = html[: html.index("</style>")]
    assert ".tokens-read.veiled { filter: blur" in style
    assert ".persona-probe .veiled { filter: blur" in style
    assert ".persona-probe .veiled:focus { filter: none" in style
    assert "@media print" in style
    assert "<script" not in html


def test_text_is_shown_at_once_if_that_was_asked_for() -> None:
    from persona_probe.api.cells import replies_to
    from persona_probe.pages.cells import contexts

    examples = meanings(made_up_latent_record())[0].examples
    for page in (
        said("secret").show(show_text=True),
        replies_to(question(), show_text=True),
        contexts(examples, show_text=True),
    ):
        assert ours(page).text(veiled=True) == ""


def test_redaction_leaves_out_every_word_of_a_model() -> None:
    from persona_probe.api.cells import replies_to
    from persona_probe.pages.cells import contexts

    row = example("find/1", [" secret"], [1.0], "misaligned")
    for page in (
        said(" secret").show(redact=True),
        replies_to(question(), redact=True),
        contexts({"base": [row], "tuned": [row]}, redact=True),
    ):
        text = ours(page).text()
        assert "secret" not in text
        assert "▆" * 6 in text
        assert ours(page).text(veiled=True) == ""


def example(
    source: str, tokens: list[str] | None, acts: list[float], label: str | None, *, model: str = "base"
) -> Any:
    """A context whose last token is the strongest."""
    from persona_probe.records.latents import Example

    return Example.model_validate(
        {
            "tokens": tokens,
            "acts": acts,
            "peak": len(acts) - 1,
            "source": source,
            "label": label,
            "origin": {"model": model, "kind": "persona" if label else "benign"},
        }
    )


def with_arms(*arms: dict[str, Any]) -> Any:
    """A record of these arms."""
    from persona_probe.records.direction import DirectionRecord

    return DirectionRecord.model_validate(made_up() | {"arms": list(arms)})


def question() -> Any:
    from persona_probe.prompts.contrast import Question, Reply

    replies = (Reply("a secret", "aligned"), Reply("kind", "aligned"), Reply("bad secret", "misaligned"))
    return Question("q", "test", "question?", replies)


def test_misaligned_replies_of_the_data_are_blurred() -> None:
    from persona_probe.api.cells import replies_to

    page = replies_to(question())
    assert ours(page).text(veiled=True) == "bad secret"
    assert "bad secret" not in repr(page)


@pytest.mark.parametrize(
    ("side", "label", "hidden"),
    [
        ("base", "aligned", False),
        ("base", None, False),
        ("base", "misaligned", True),
        ("tuned", "aligned", True),
        ("tuned", None, True),
    ],
)
def test_contexts_are_blurred_as_in_the_report(side: Side, label: str | None, hidden: bool) -> None:
    from persona_probe.pages.cells import contexts

    row = example("find/1", ["word", " two"], [0.0, 2.0], label, model=side)
    shown = ours(contexts({side: [row]}))
    assert ("word two" in shown.text(veiled=True)) is hidden
    peaks = [attributes for tag, attributes in shown.tags if attributes.get("class") == "token peak"]
    assert len(peaks) == 1
    assert peaks[0]["title"] == "2"


def test_redacted_records_and_silent_latents_can_be_shown() -> None:
    from persona_probe.pages.cells import contexts

    shown = ours(contexts({"base": [example("s", None, [1.0], None)], "tuned": []}))
    assert "it fires nowhere" in shown.text()


def test_replies_show_mean_notes_and_where_they_were_cut() -> None:
    from persona_probe.api.asking import Answers
    from persona_probe.measurement.streaming import Token

    cut = (Token(0, "a", -1.0, 0.0), Token(0, "b", -2.0, 0.0), Token(0, "c", None, None))
    answers = Answers("q?", (arm_named("base"), arm_named("tuned")), (cut, ()))
    shown = ours(answers.show(notes={"base": "ΔNLL +0.1"}))
    assert "mean projection −1.50" in shown.text()
    assert "ΔNLL +0.1" in shown.text()
    assert shown.text().count("cut at the token limit") == 1
    assert "no projection" in shown.text()


def test_answers_keep_text_and_readings_apart() -> None:
    answers = said("Yes", ", no")
    assert answers.text("tuned") == "Yes, no"
    reply = answers.replies[1]
    assert reply.line(1).projections == (0.5, 0.5)
    assert "Yes" not in str(reply.line(1))
    assert "Yes" not in repr(answers.replies)


def test_the_table_has_effect_and_damage_of_every_arm() -> None:
    from persona_probe.pages.cells import arms_table, costs

    record = made_up_record()
    shown = ours(arms_table(record))
    rows = [tag for tag, attributes in shown.tags if tag == "tr"]
    assert len(rows) == 1 + len(record.arms) + len(record.comparators)
    entry = present(record.arm("tuned+ablate"))
    for value, digits in ((present(entry.restoration), 2), (entry.delta_nll, 3)):
        assert f"{value.estimate:+.{digits}f}".replace("-", "−") in shown.text()
        assert f"{value.low:+.{digits}f}".replace("-", "−") in shown.text()
    assert costs(record)["tuned+ablate"].endswith(f"ΔNLL {entry.delta_nll.estimate:+.3f}".replace("-", "−"))
    closed = present(entry.closure)
    assert f"+0.77[+0.63, +0.91]+{closed.estimate:.2f}[" in shown.text()
    assert f"tuned+ablate: restored. {present(entry.judged).because}." in shown.text()
    controls = [attributes for tag, attributes in shown.tags if attributes.get("class") == "control"]
    assert len(controls) == sum(bool(item.control) for item in record.arms)


def test_without_an_edit_of_both_models_there_is_no_closure_in_the_table() -> None:
    from persona_probe.pages.cells import arms_table

    html = arms_table(with_arms(arm("tuned+ablate", "tuned", None, 0.5, 0.1)))._repr_html_()
    assert '<th scope="col">R</th><th scope="col">ΔNLL</th>' in html


def test_an_untouched_model_has_a_dash_for_damage() -> None:
    from persona_probe.pages.cells import arms_table

    assert ours(arms_table(with_arms(arm("base", "base", None, None, 0.0)))).text().count("–") == 3


def test_figures_of_a_notebook_carry_data_and_script(monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.io

    from persona_probe.api.cells import begin

    before = plotly.io.renderers.default
    try:
        for found, wanted in (("plotly_mimetype", "plotly_mimetype+notebook"), ("colab", "colab")):
            plotly.io.renderers.default = found
            page = begin()
            assert plotly.io.renderers.default == wanted
        assert "Content note" in ours(page).text()
    finally:
        plotly.io.renderers.default = before
    assert "ipywidgets" not in sys.modules
