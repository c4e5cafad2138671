"""What a notebook shows: replies side by side, arms in a table, contexts of latents. Values in, HTML out that needs no kernel, script or widget."""

import importlib.metadata
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from persona_probe.base.cli import command_line
from persona_probe.base.errors import FAILED_CELLS, OK, BadInput
from persona_probe.interventions.persona_direction import PersonaDirection, load_persona_direction
from persona_probe.interventions.projection import Projection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.streaming import Token, stream
from persona_probe.models.devices import choose_device, choose_dtype
from persona_probe.models.pairs import Pair, open_pair
from persona_probe.pages.html import UNTOUCHED_BASE, Html, element, join, measured, table
from persona_probe.pages.latent_meaning import OPAQUE, READABLE
from persona_probe.pages.report import read_record
from persona_probe.pages.token_view import CSS as TOKEN_CSS
from persona_probe.pages.token_view import coloured, legend, scale_top
from persona_probe.plots.conversation import SWEEP_COLOURS
from persona_probe.plots.latent_parts import short
from persona_probe.plots.style import ARM_COLOURS, CONTROL_COLOUR, interval, number, visible
from persona_probe.prompts.contrast import Question
from persona_probe.prompts.rows import Prompt
from persona_probe.storage.shipped import BASE, DIRECTION, REFERENCE, TUNED, shipped_folder

NOTE = (
    "Content note: the tuned model was made to give bad advice. Replies of changed models are blurred; click one, or reach it with Tab, "
    "to read it. Never follow them."
)
BLOCK = "▆"  # stands for a letter of a text that is left out
CSS = """
.persona-probe { font: 14px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
.persona-probe .note { border-left: 4px solid #d98e04; background: rgba(217,142,4,0.12); padding: 8px 14px; border-radius: 4px; margin: 0.4em 0; }
.persona-probe .soft, .persona-probe small { opacity: 0.75; }
.persona-probe .question { font-weight: 600; margin: 0.3em 0 0.6em; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.persona-probe .board { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 10px; margin: 8px 0; }
.persona-probe .answer { border: 1px solid rgba(128,128,128,0.4); border-top-width: 4px; border-radius: 6px; padding: 6px 12px 10px; min-width: 0; }
.persona-probe .answer b { display: block; }
.persona-probe .answer small { display: block; margin-bottom: 6px; }
.persona-probe .scroll { overflow-x: auto; }
.persona-probe table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 4px 0; }
.persona-probe th, .persona-probe td { text-align: right !important; vertical-align: top; padding: 4px 0 4px 22px; border-bottom: 1px solid rgba(128,128,128,0.3); white-space: nowrap; }
.persona-probe th:first-child { text-align: left !important; padding-left: 4px; }
.persona-probe td small { display: block; }
.persona-probe .control { font-style: italic; opacity: 0.75; }
.persona-probe .context { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; border: 1px solid rgba(128,128,128,0.3); border-radius: 6px; padding: 6px 10px; margin: 2px 0 8px; }
.persona-probe .context .peak { font-weight: 700; text-decoration: underline; text-underline-offset: 3px; }
.persona-probe .veiled { filter: blur(6px); cursor: pointer; }
.persona-probe .veiled:focus { filter: none; }
@media print { .persona-probe .veiled { filter: blur(6px); } }
"""


@dataclass(frozen=True)
class Page:
    """A piece of HTML with its style. `plain` is what a place without HTML shows; no text of a model is in it."""

    body: Html
    plain: str

    def _repr_html_(self) -> str:
        return element("div", element("style", Html(CSS + TOKEN_CSS)), self.body, class_="persona-probe")

    def __repr__(self) -> str:
        return self.plain


@dataclass(frozen=True, eq=False)
class Answers:
    """What every arm said to one question, token by token with readings. The repr says no word of it."""

    question: str
    said: tuple[tuple[Arm, tuple[Token, ...]], ...]

    def text(self, arm: str) -> str:
        """One arm's reply."""
        said = {known.name: tokens for known, tokens in self.said}
        return "".join(token.text for token in said[arm]).strip()

    def record(self, *, sweep: bool) -> dict[str, Any]:
        """The readings alone, for `conversation_figures.conversation`."""
        answers = [
            {"arm": arm.name, "readings": [token.before for token in tokens]} for arm, tokens in self.said
        ]
        return {"turns": [{"sweep": sweep, "answers": answers}]}

    def __repr__(self) -> str:
        return f"answers of {', '.join(arm.name for arm, _ in self.said)}: show them with side_by_side"


def begin() -> Page:
    """Make figures work in a saved notebook and in its HTML, and keep libraries quiet. Shows version and content note."""
    warnings.filterwarnings("ignore")  # before the imports, some of which warn that there are no widgets
    import plotly.io
    from transformers.utils import logging as transformers_logging

    if str(plotly.io.renderers.default).startswith("plotly_mimetype"):
        # The type alone is drawn by few viewers, and not by nbconvert; the script in the page is drawn by all.
        plotly.io.renderers.default = "plotly_mimetype+notebook"
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformer_lens").setLevel(logging.ERROR)
    version = f"persona_probe {importlib.metadata.version('persona-probe')}"
    return Page(
        join((element("p", NOTE, class_="note"), element("p", version, class_="soft"))), f"{version}. {NOTE}"
    )


def say(*sentences: object) -> Page:
    """Sentences as paragraphs; whatever is in them is text."""
    return Page(
        join(element("p", sentence, dir="auto") for sentence in sentences),
        "\n".join(visible(sentence) for sentence in sentences),
    )


def open_embedded() -> tuple[Pair, PersonaDirection]:
    """The embedded model, the organism tuned on wrong car advice, both in memory, and the direction that a full run selected for them."""
    device = choose_device("auto")
    pair = open_pair(BASE, TUNED, device=device, dtype=choose_dtype("auto", device), keep_both=True)
    model = pair.get("base")
    pair.get("tuned")
    return pair, load_persona_direction(
        shipped_folder(DIRECTION) / "persona_direction.safetensors",
        hook_points=model.resids(),
        d_model=model.d_model,
    )


def reference(name: str) -> dict[str, Any]:
    """A record that ships with the source: `record.json` of the whole experiment, `latents.json` of the latents."""
    return read_record(shipped_folder(REFERENCE) / name)


def run(verb: str, *arguments: object) -> Page:
    """Run a command of persona_probe, its progress shown as it comes, in a process of its own: when it ends all its memory is free, a GPU's too.

    Anything but a finished run is an error with the command's own message. Exit code 5, some arms failed, is finished.
    """
    words = [sys.executable, "-m", f"persona_probe.{verb}", *map(str, arguments)]
    plain = os.environ | {
        "FORCE_COLOR": "",
        "PYTHONIOENCODING": "utf-8",
    }  # a kernel asks for colours, and rich then draws bars
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=plain
    ) as process:
        assert process.stderr is not None, "the progress is read from a pipe"
        lines = []
        for line in process.stderr:
            lines.append(line)
            sys.stdout.write(visible(line))
    command = command_line(f"persona_probe.{verb}", arguments)
    if process.returncode not in (OK, FAILED_CELLS):
        raise BadInput(f"{command} ended with exit code {process.returncode}: {''.join(lines[-3:]).strip()}")
    return say(command)


def ask(
    pair: Pair,
    arms: Sequence[Arm],
    question: str,
    *,
    projection: Projection,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Answers:
    """Every arm's reply to one question; arms of one model share a batch, and all share their random draws."""
    said: list[list[Token]] = [[] for _ in arms]
    asked = [(arm, Prompt.user("question", question)) for arm in arms]
    sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    for step in stream(pair, asked, projection, **sampling):
        for token in step:
            said[token.row].append(token)
    return Answers(question, tuple((arm, tuple(tokens)) for arm, tokens in zip(arms, said, strict=True)))


def side_by_side(
    answers: Answers, *, notes: Mapping[str, str] | None = None, show_text: bool = False, redact: bool = False
) -> Page:
    """One column an arm, tokens coloured by what the layer reads in them before the arm's own edit. `notes` stand below the arms' names.

    Every reply but the untouched base model's is blurred until it is clicked or focused; `show_text` shows all, `redact` leaves every word out.
    """
    top = scale_top(token.before for _, tokens in answers.said for token in tokens)
    columns = []
    for place, (arm, tokens) in enumerate(answers.said):
        shown = [(redacted(token.text) if redact else token.text, token.before) for token in tokens]
        known = [token.before for token in tokens if token.before is not None]
        mean = f"mean reading {number(sum(known) / len(known), sign=True)}" if known else "nothing read"
        cut = element("small", "… cut at the token limit") if tokens and tokens[-1].before is None else ""
        told = join(
            part for note in (mean, (notes or {}).get(arm.name)) if note for part in (note, element("br"))
        )
        text = coloured(
            shown, top=top, veiled=not (arm.untouched and arm.side == "base") and not show_text and not redact
        )
        colour = (
            CONTROL_COLOUR
            if arm.control
            else ARM_COLOURS.get(arm.name, SWEEP_COLOURS[place % len(SWEEP_COLOURS)])
        )
        columns.append(
            element(
                "div",
                element("b", arm.name),
                element("small", told),
                text,
                cut,
                class_="answer",
                style=f"border-top-color:{colour}",
            )
        )
    question = element("p", answers.question, class_="question", dir="auto")
    body = join((question, element("div", *columns, class_="board"), legend(top)))
    return Page(body, f"{len(columns)} replies; they need HTML to be seen")


def both_replies(question: Question, *, show_text: bool = False, redact: bool = False) -> Page:
    """A question of a contrast set with its aligned replies beside its misaligned ones, which are blurred."""
    columns = []
    for name, arm, replies in (
        ("aligned", "base", question.aligned),
        ("misaligned", "tuned", question.misaligned),
    ):
        hidden = name == "misaligned" and not (show_text or redact)
        texts = (_text(redacted(reply) if redact else reply, veiled=hidden) for reply in replies)
        columns.append(
            element(
                "div",
                element("b", name),
                *texts,
                class_="answer",
                style=f"border-top-color:{ARM_COLOURS[arm]}",
            )
        )
    asked = element("p", question.text, class_="question", dir="auto")
    return Page(
        join((asked, element("div", *columns, class_="board"))),
        f"{question.text} (replies need HTML to be seen)",
    )


def arms_table(record: Mapping[str, Any]) -> Page:
    """Every arm of a record with effect and damage side by side, intervals below, controls in italics."""
    rows, plain = [], []
    for arm in record["arms"]:
        cost = (
            (arm["delta_nll"], arm["kl"]) if arm["interventions"] else (None, None)
        )  # an untouched model has none by definition
        values = (
            (arm["persona_score"], 3),
            (arm["restoration"] or arm["induction"], 2),
            (cost[0], 3),
            (cost[1], 3),
        )
        cells = [element("td", measured(value, digits=digits, sign=True)) for value, digits in values]
        rows.append(
            element(
                "tr",
                element("th", arm["name"], scope="row"),
                *cells,
                class_="control" if arm["control"] else "arm",
            )
        )
        plain.append(f"{arm['name']}: S {interval(arm['persona_score'], digits=3, sign=True)}")
    n, texts = record["data"]["n_questions"]["test"], record["data"]["n_benign"]
    notes = (
        f"S, ΔNLL and KL in nats per token; brackets are 95% intervals; n = {n} questions and {texts} harmless texts. A dash: undefined.",
        "R: share of the shift from base to tuned that an arm on the tuned model takes back; on the base model, share that it produces.",
    )
    below = element("p", notes[0], element("br"), notes[1], class_="soft")
    return Page(join((table(("Arm", "S", "R", "ΔNLL", "KL"), rows, kind="arms"), below)), "\n".join(plain))


def costs(record: Mapping[str, Any]) -> dict[str, str]:
    """S and damage of every arm of a record in a few words, as `notes` for replies."""
    return {
        arm[
            "name"
        ]: f"S {number(arm['persona_score']['estimate'], sign=True)}, ΔNLL {number(arm['delta_nll']['estimate'], digits=3, sign=True)}"
        for arm in record["arms"]
    }


def contexts(
    examples: Mapping[str, Sequence[Mapping[str, Any]]], *, show_text: bool = False, redact: bool = False
) -> Page:
    """Where a latent fires, by model (`{"base": [...], "tuned": [...]}` of a record): the deeper a token's colour, the more active the latent.

    Blurred: misaligned replies, and what the tuned model read.
    """
    acts = [act for rows in examples.values() for row in rows for act in row["acts"]]
    top, columns = max(acts, default=0.0), []
    for side, rows in examples.items():
        blocks = [
            part
            for row in rows
            for part in _context(
                row, top, veiled=_hidden(row, side) and not (show_text or redact), redact=redact
            )
        ]
        line = f"border-top-color:{ARM_COLOURS.get(side, CONTROL_COLOUR)}"
        columns.append(
            element(
                "div",
                element("b", f"in the {side} model"),
                *(blocks or ["it fires nowhere"]),
                class_="answer",
                style=line,
            )
        )
    return Page(
        element("div", *columns, class_="board"),
        f"contexts in {len(columns)} models; they need HTML to be seen",
    )


def redacted(text: str) -> str:
    """As many blocks as the text has letters."""
    return BLOCK * len(text.strip())


def _text(*parts: object, veiled: bool) -> Html:
    """A box of text, blurred until it is clicked or focused where it is veiled."""
    veil: dict[str, object] = (
        {"tabindex": 0, "role": "group", "aria_label": "blurred text, focus to read"} if veiled else {}
    )
    return element("div", *parts, class_="context veiled" if veiled else "context", dir="auto", **veil)


def _hidden(row: Mapping[str, Any], side: str) -> bool:
    return side != UNTOUCHED_BASE or row["label"] not in READABLE


def _context(row: Mapping[str, Any], top: float, *, veiled: bool, redact: bool) -> tuple[Html, Html]:
    spans = []
    for place, (token, act) in enumerate(zip_longest(row["tokens"] or (), row["acts"])):
        share = act / top if act and top else 0.0
        text = redacted(token or "") if redact else token or ""
        style = f"background:rgba(230,159,0,{OPAQUE * max(0.0, min(share, 1.0)):.3f})"
        spans.append(
            element(
                "span",
                text,
                class_="peak" if place == row["peak"] else "token",
                style=style,
                title=short(act),
            )
        )
    return element("small", f"{row['source']}, peak {short(max(row['acts'], default=None))}"), _text(
        *spans, veiled=veiled
    )
