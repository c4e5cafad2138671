"""What notebooks show: our tags only, whatever a model says; blurred until asked for, or left out; commands
that fail are errors."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up import PAYLOADS, arm, made_up, made_up_record
from helpers.made_up_latents import made_up_latent_record
from helpers.markup import Shown
from helpers.planted import open_planted, planted_direction

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
    from persona_probe.measurement.streaming import Token
    from persona_probe.notebook import Answers

    return Answers(
        asked,
        tuple(
            (arm_named(name), tuple(Token(i, text, 0.5, 1.0) for text in texts))
            for i, name in enumerate(names)
        ),
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
    from persona_probe.notebook import arms_table, both_replies, contexts, say, side_by_side
    from persona_probe.prompts.contrast import Question

    def pages(word: str) -> list[Any]:
        row = example(word, [word], [1.0], None)
        return [
            side_by_side(said(word, names=("base", word), asked=word), notes={word: word, "base": word}),
            both_replies(Question("q", "test", word, (word,), (word,))),
            contexts({"base": [row], "tuned": [row]}),
            say(word),
            arms_table(with_arms(arm(word, "tuned", None, 0.5, 0.1))),
        ]

    def tags(word: str) -> list[list[str]]:
        return [[tag for tag, _ in ours(page).tags] for page in pages(word)]

    assert tags(attack) == tags("x")


@pytest.mark.parametrize("control", ["\u202e", "\u2066", "\x1b", "\x00"])
def test_characters_that_act_are_made_visible(control: str) -> None:
    from persona_probe.notebook import say, side_by_side

    for page in (side_by_side(said(f"a{control}b")), say(f"a{control}b")):
        assert control not in page._repr_html_()
        assert control not in repr(page)


def test_only_the_untouched_base_speaks_plainly() -> None:
    from persona_probe.notebook import side_by_side

    page = side_by_side(said("secret", names=("base", "tuned", "tuned+ablate", "base+steer", "base +3")))
    shown = ours(page)
    assert shown.text(veiled=True).count("secret") == 4
    assert shown.text(veiled=False).count("secret") == 1
    assert "secret" not in repr(page)
    assert "secret" not in repr(said("secret"))


def test_blur_is_in_the_output_itself() -> None:
    from persona_probe.notebook import side_by_side

    html = side_by_side(said("secret"))._repr_html_()
    style = html[: html.index("</style>")]
    assert ".tokens-read.veiled { filter: blur" in style
    assert ".persona-probe .veiled { filter: blur" in style
    assert ".persona-probe .veiled:focus { filter: none" in style
    assert "@media print" in style
    assert "<script" not in html


def test_text_is_shown_at_once_if_that_was_asked_for() -> None:
    from persona_probe.notebook import both_replies, contexts, side_by_side

    examples = made_up_latent_record().latents[0].meaning.examples
    for page in (
        side_by_side(said("secret"), show_text=True),
        both_replies(question(), show_text=True),
        contexts(examples, show_text=True),
    ):
        assert ours(page).text(veiled=True) == ""


def test_redaction_leaves_out_every_word_of_a_model() -> None:
    from persona_probe.notebook import both_replies, contexts, side_by_side

    row = example("find/1", [" secret"], [1.0], "misaligned")
    for page in (
        side_by_side(said(" secret"), redact=True),
        both_replies(question(), redact=True),
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
    from persona_probe.prompts.contrast import Question

    return Question("q", "test", "question?", ("a secret", "kind"), ("bad secret",))


def test_misaligned_replies_of_the_data_are_blurred() -> None:
    from persona_probe.notebook import both_replies

    page = both_replies(question())
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
def test_contexts_are_blurred_as_in_the_report(side: str, label: str | None, hidden: bool) -> None:
    from persona_probe.notebook import contexts

    row = example("find/1", ["word", " two"], [0.0, 2.0], label, model=side)
    shown = ours(contexts({side: [row]}))
    assert ("word two" in shown.text(veiled=True)) is hidden
    peaks = [attributes for tag, attributes in shown.tags if attributes.get("class") == "token peak"]
    assert len(peaks) == 1
    assert peaks[0]["title"] == "2"


def test_redacted_records_and_silent_latents_can_be_shown() -> None:
    from persona_probe.notebook import contexts

    shown = ours(contexts({"base": [example("s", None, [1.0], None)], "tuned": []}))
    assert "it fires nowhere" in shown.text()


def test_replies_show_mean_notes_and_where_they_were_cut() -> None:
    from persona_probe.measurement.streaming import Token
    from persona_probe.notebook import Answers, side_by_side

    cut = (Token(0, "a", -1.0, 0.0), Token(0, "b", -2.0, 0.0), Token(0, "c", None, None))
    shown = ours(
        side_by_side(
            Answers("q?", ((arm_named("base"), cut), (arm_named("tuned"), ()))), notes={"base": "ΔNLL +0.1"}
        )
    )
    assert "mean projection −1.50" in shown.text()
    assert "ΔNLL +0.1" in shown.text()
    assert shown.text().count("cut at the token limit") == 1
    assert "no projection" in shown.text()


def test_answers_keep_text_and_readings_apart() -> None:
    answers = said("Yes", ", no")
    assert answers.text("tuned") == "Yes, no"
    lines = answers.lines(sweep=True)
    assert [(line.arm, line.projections, line.step) for line in lines[0]] == [
        ("base", (0.5, 0.5), 0),
        ("tuned", (0.5, 0.5), 1),
    ]
    assert "Yes" not in str(lines)


def test_the_table_has_effect_and_damage_of_every_arm() -> None:
    from persona_probe.notebook import arms_table, costs

    record = made_up_record()
    shown = ours(arms_table(record))
    rows = [tag for tag, attributes in shown.tags if tag == "tr"]
    assert len(rows) == len(record.arms) + 1
    entry = record.arm("tuned+ablate")
    for value, digits in ((entry.restoration, 2), (entry.delta_nll, 3)):
        assert f"{value.estimate:+.{digits}f}".replace("-", "−") in shown.text()
        assert f"{value.low:+.{digits}f}".replace("-", "−") in shown.text()
    assert costs(record)["tuned+ablate"].endswith(f"ΔNLL {entry.delta_nll.estimate:+.3f}".replace("-", "−"))
    controls = [attributes for tag, attributes in shown.tags if attributes.get("class") == "control"]
    assert len(controls) == sum(bool(item.control) for item in record.arms)


def test_an_untouched_model_has_a_dash_for_damage() -> None:
    from persona_probe.notebook import arms_table

    assert ours(arms_table(with_arms(arm("base", "base", None, None, 0.0)))).text().count("–") == 3


def test_arms_of_both_models_answer_one_question(tmp_path: Path) -> None:
    from persona_probe.measurement.arms import Arm
    from persona_probe.notebook import ask

    planted = open_planted(tmp_path)
    direction = planted_direction(planted)
    at = planted.toy.hook_point
    arms = [Arm("base", "base"), Arm("tuned", "tuned"), Arm("tuned+ablate", "tuned", direction.ablate(at))]
    asked = {"projection": direction.projection(at), "max_new_tokens": 5, "temperature": 0.0, "seed": 0}
    answers = ask(planted.pair, arms, planted.contrast.questions[0].text, **asked)
    assert [arm.name for arm, _ in answers.said] == ["base", "tuned", "tuned+ablate"]
    assert answers.text("base") == answers.text(
        "tuned+ablate"
    )  # the toy's tuning is the direction and nothing else
    assert all(len(tokens) <= 5 for _, tokens in answers.said)


def test_a_command_shows_its_progress_and_comes_back_as_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from persona_probe.notebook import run

    (tmp_path / "record.json").write_text(json.dumps(made_up()))
    page = run("report", tmp_path / "record.json", tmp_path / "page.html")
    assert (tmp_path / "page.html").is_file()
    assert "python -m persona_probe.report" in ours(page).text()
    assert capsys.readouterr().out == ""


def test_a_command_that_fails_is_an_error_in_its_own_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.notebook import run

    with pytest.raises(BadInput, match=r"exit code 3: .*no file .*nothing\.json"):
        run("report", tmp_path / "nothing.json")
    assert "no file" in capsys.readouterr().out


def test_a_command_draws_no_bars_and_no_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from persona_probe.notebook import run

    monkeypatch.setenv("FORCE_COLOR", "1")  # as a kernel does
    run("find_direction", "--toy", "--controls", 0, "--n-prompts", 0, "--output-dir", tmp_path / "toy")
    out = capsys.readouterr().out
    assert "written: record.json" in out
    assert "\x1b" not in out
    assert "�" not in out


def test_reference_records_are_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from persona_probe.notebook import reference

    monkeypatch.chdir(tmp_path)
    assert reference("record.json").selected.arm == "tuned+ablate"
    assert reference("latents.json").kind == "latents"


def test_figures_of_a_notebook_carry_data_and_script(monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.io

    from persona_probe.notebook import begin

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
