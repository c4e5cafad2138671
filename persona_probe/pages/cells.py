"""What a notebook shows: replies side by side, arms in a table, contexts of latents. Values in, HTML out that
needs no kernel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import htpy as h
from htpy import Element
from markupsafe import Markup

from persona_probe.base.formatting import interval, number, short, signed, visible
from persona_probe.pages.blur import blocked_out, is_blurred, text_box
from persona_probe.pages.html import Node, measured, render, row, soft, table
from persona_probe.pages.latent_page import activations
from persona_probe.pages.token_view import CSS as TOKEN_CSS
from persona_probe.pages.token_view import coloured, legend, mean_projection, scale_top
from persona_probe.plots.conversation import Line
from persona_probe.plots.parts import WithArms
from persona_probe.plots.style import ARM_COLOURS, CONTROL_COLOUR
from persona_probe.records.comparators import ComparatorEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.latents import Example
from persona_probe.records.parts import Label, Side

CSS = """
.persona-probe { font: 14px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
.persona-probe .note {
  border-left: 4px solid #d98e04; background: rgba(217,142,4,0.12); padding: 8px 14px; border-radius: 4px;
  margin: 0.4em 0;
}
.persona-probe .soft, .persona-probe small { opacity: 0.75; }
.persona-probe .question {
  font-weight: 600; margin: 0.3em 0 0.6em; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi:
  isolate;
}
.persona-probe .board {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 10px; margin: 8px 0;
}
.persona-probe .answer {
  border: 1px solid rgba(128,128,128,0.4); border-top-width: 4px; border-radius: 6px; padding: 6px 12px
  10px; min-width: 0;
}
.persona-probe .answer b { display: block; }
.persona-probe .answer small { display: block; margin-bottom: 6px; }
.persona-probe .scroll { overflow-x: auto; }
.persona-probe table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 4px 0; }
.persona-probe th, .persona-probe td {
  text-align: right !important; vertical-align: top; padding: 4px 0 4px 22px; white-space: nowrap;
  border-bottom: 1px solid rgba(128,128,128,0.3);
}
.persona-probe th:first-child { text-align: left !important; padding-left: 4px; }
.persona-probe td small { display: block; }
.persona-probe .control { font-style: italic; opacity: 0.75; }
.persona-probe .context {
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; border: 1px solid
  rgba(128,128,128,0.3);
  border-radius: 6px; padding: 6px 10px; margin: 2px 0 8px;
}
.persona-probe .context .peak { font-weight: 700; text-decoration: underline; text-underline-offset: 3px; }
.persona-probe .veiled { filter: blur(6px); cursor: pointer; }
.persona-probe .veiled:focus { filter: none; }
@media print { .persona-probe .veiled { filter: blur(6px); } }
"""


@dataclass(frozen=True)
class Cell:
    """A piece of HTML with its style. `plain` is what a place without HTML shows; no text of a model is in
    it."""

    body: Node
    plain: str

    def _repr_html_(self) -> str:
        return str(render(h.div(".persona-probe")[h.style[Markup(CSS + TOKEN_CSS)], self.body]))

    def __repr__(self) -> str:
        return visible(self.plain)


@dataclass(frozen=True)
class Reply:
    """What one arm said, token by token, with the projection of each token before the arm's own edit. Its
    repr has no word of it."""

    arm: str
    side: Side
    edited: bool
    control: bool
    tokens: tuple[tuple[str, float | None], ...]

    @property
    def text(self) -> str:
        """The whole reply."""
        return "".join(text for text, _ in self.tokens).strip()

    @property
    def cut(self) -> bool:
        """Whether it ended at the limit of tokens: the last token was then not run, and has no projection."""
        return bool(self.tokens) and self.tokens[-1][1] is None

    def line(self, step: int | None = None) -> Line:
        """The projections alone, for a figure; `step` is the place in a sweep."""
        return Line(self.arm, tuple(projection for _, projection in self.tokens), step)

    def __repr__(self) -> str:
        return f"reply of {self.arm}"


def say(*sentences: object) -> Cell:
    """Sentences as paragraphs; whatever is in them is text."""
    words = [str(sentence) for sentence in sentences]
    return Cell([h.p(dir="auto")[sentence] for sentence in words], "\n".join(words))


def side_by_side(
    question: str,
    replies: Sequence[Reply],
    *,
    used: str | None = None,
    notes: Mapping[str, str] | None = None,
    show_text: bool = False,
    redact: bool = False,
) -> Cell:
    """One column an arm, tokens coloured by their projection before the arm's own edit. `notes` stand below
    the arms' names. `used` says that the direction was "found" or "selected" on this question.

    Every reply but the untouched base model's is blurred until it is clicked or focused; `show_text` shows
    all,
    `redact` leaves every word out.
    """
    top = scale_top(projection for reply in replies for _, projection in reply.tokens)
    columns = []
    for place, reply in enumerate(replies):
        shown = [(blocked_out(text) if redact else text, value) for text, value in reply.tokens]
        blurred = is_blurred(side=reply.side, edited=reply.edited) and not (show_text or redact)
        mean = mean_projection((value for _, value in reply.tokens), otherwise="no projection")
        note = (notes or {}).get(reply.arm)
        column = [
            h.small[mean, note and [h.br, note]],
            coloured(shown, top=top, blurred=blurred),
            reply.cut and h.small["… cut at the token limit"],
        ]
        known = reply.arm in ARM_COLOURS
        colour = CONTROL_COLOUR if reply.control else reply.line(None if known else place).look[0]
        columns.append(_column(reply.arm, colour, column))
    seen = (
        used
        and h.p(".note")[f"The direction was {used} on this question: what is shown here is no test of it."]
    )
    body = [seen, _board(question, columns, legend(top))]
    return Cell(body, f"{len(columns)} replies; they need HTML to be seen")


def both_replies(
    question: str, replies: Mapping[Label, Sequence[str]], *, show_text: bool = False, redact: bool = False
) -> Cell:
    """A question of a contrast set with its aligned replies beside its misaligned ones, which are blurred."""
    columns = []
    for label, texts in replies.items():
        blurred = is_blurred(side="base", label=label) and not (show_text or redact)
        shown = [blocked_out(text) if redact else text for text in texts]
        boxes = [text_box(text, kind="context", blurred=blurred) for text in shown]
        columns.append(_column(label, ARM_COLOURS["base" if label == "aligned" else "tuned"], boxes))
    return Cell(_board(question, columns), f"{question} (replies need HTML to be seen)")


def _column(name: str, colour: str, content: Node) -> Element:
    return h.div(".answer", style=f"border-top-color:{colour}")[h.b[name], content]


def _board(question: str | None, columns: Sequence[Element], *below: Node) -> Node:
    asked = question is not None and h.p(".question", dir="auto")[question]
    return [asked, h.div(".board")[columns], *below]


def arms_table(record: WithArms) -> Cell:
    """Every arm of a record with R, C and damage side by side, intervals below, controls in italics.

    C is left out where no edit was made in both models.
    """
    closes = any(arm.closure for arm in record.arms)
    rows = [
        row(
            arm.name,
            measured(arm.persona_score, digits=3, sign=True),
            measured(arm.restoration or arm.induction, sign=True),
            *([measured(arm.closure, sign=True)] if closes else []),
            # An untouched model has no damage by definition.
            *(
                measured(value if arm.interventions else None, digits=3, sign=True)
                for value in (arm.delta_nll, arm.kl)
            ),
            kind="control" if arm.control else "arm",
        )
        for arm in record.arms
    ]
    remedies = record.comparators if isinstance(record, DirectionRecord) else ()
    rows += [_comparator(entry, closes=closes) for entry in remedies]
    n, texts = record.data.n_questions.test, record.data.n_benign
    notes = (
        "S, ΔNLL and KL in nats per token; brackets are 95% intervals; "
        f"n = {n} questions and {texts} harmless texts. A dash: undefined.",
        "R: share of the shift from base to tuned that an arm on the tuned model takes back; "
        "on the base model, share that it produces.",
    )
    of_closure = "C: share of the gap between both models that is gone when both are edited alike."
    plain = "\n".join(
        f"{arm.name}: S {interval(arm.persona_score, digits=3, sign=True)}" for arm in record.arms
    )
    head = ("Arm", "S", "R", *(["C"] if closes else []), "ΔNLL", "KL")
    shown = table(head, rows, kind="arms")
    below = soft(notes[0], h.br, notes[1], closes and [h.br, of_closure])
    verdicts = [
        h.p[h.b[arm.name], f": {arm.judged.verdict}. {arm.judged.because}."]
        for arm in record.arms
        if arm.judged
    ]
    return Cell([shown, below, *verdicts], plain)


def _comparator(entry: ComparatorEntry, *, closes: bool) -> Element:
    """A simple remedy as a row of the arms' table."""
    return row(
        f"{entry.name} (no direction)",
        measured(entry.persona_score, digits=3, sign=True),
        measured(entry.restoration or entry.induction, sign=True),
        *([measured(entry.closure, sign=True)] if closes else []),
        *(measured(value, digits=3, sign=True) for value in (entry.delta_nll, entry.kl)),
        kind="arm",
    )


def costs(record: WithArms) -> dict[str, str]:
    """S and damage of every arm of a record in a few words, as `notes` for replies."""
    return {
        arm.name: f"S {number(arm.persona_score.estimate, sign=True)}, ΔNLL {signed(arm.delta_nll.estimate)}"
        for arm in record.arms
    }


def contexts(
    examples: Mapping[Side, Sequence[Example]], *, show_text: bool = False, redact: bool = False
) -> Cell:
    """Where a latent fires, by model: the deeper a token's colour, the more active the latent.

    Blurred: misaligned replies, and what the tuned model read.
    """
    top = max((act for rows in examples.values() for example in rows for act in example.acts), default=0.0)
    columns = []
    for side, rows in examples.items():
        boxes: list[Node] = []
        for example in rows:
            blurred = is_blurred(side=example.origin.model, label=example.label) and not (show_text or redact)
            tokens = [blocked_out(token) if redact else token for token in example.tokens or ()]
            peak = short(max(example.acts, default=None))
            boxes.append(h.small[f"{example.source}, peak {peak}"])
            boxes.append(text_box(activations(tokens, example, top=top), kind="context", blurred=blurred))
        columns.append(_column(f"in the {side} model", ARM_COLOURS[side], boxes or "it fires nowhere"))
    return Cell(_board(None, columns), f"contexts in {len(columns)} models; they need HTML to be seen")
