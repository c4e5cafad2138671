"""What the notebooks use: models and records that ship, a command, replies to a question, and the cells that
show them."""

import importlib.metadata
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import htpy as h

from persona_probe.base.cli import command_line
from persona_probe.base.errors import FAILED_CELLS, OK, BadInput
from persona_probe.base.formatting import visible
from persona_probe.interventions.persona_direction import PersonaDirection, load_persona_direction
from persona_probe.interventions.projection import Projection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.streaming import Token, stream
from persona_probe.models.devices import choose_device, choose_dtype
from persona_probe.models.pairs import Pair, open_pair
from persona_probe.pages import cells
from persona_probe.pages.cells import Cell, Reply, arms_table, contexts, costs, say
from persona_probe.pages.html import soft
from persona_probe.plots.conversation import Line
from persona_probe.prompts.contrast import Question
from persona_probe.prompts.rows import Prompt
from persona_probe.records.files import Record, read_record
from persona_probe.records.parts import Label
from persona_probe.storage.shipped import BASE, DIRECTION, REFERENCE, TUNED, shipped_folder

__all__ = [
    "Answers",
    "arms_table",
    "ask",
    "begin",
    "both_replies",
    "contexts",
    "costs",
    "open_embedded",
    "reference",
    "run",
    "say",
    "side_by_side",
]
NOTE = (
    "Content note: the tuned model was made to give bad advice. Replies of changed models are blurred; "
    "click one, or reach it with Tab, to read it. Never follow them."
)


@dataclass(frozen=True, eq=False)
class Answers:
    """What every arm said to one question, token by token. The repr says no word of it."""

    question: str
    said: tuple[tuple[Arm, tuple[Token, ...]], ...]

    @property
    def replies(self) -> tuple[Reply, ...]:
        """The replies as cells and figures take them, with projections before each arm's own edit."""
        return tuple(
            Reply(
                arm=arm.name,
                side=arm.side,
                edited=not arm.untouched,
                control=arm.control is not None,
                tokens=tuple((token.text, token.before) for token in tokens),
            )
            for arm, tokens in self.said
        )

    def text(self, arm: str) -> str:
        """One arm's reply."""
        return next(reply.text for reply in self.replies if reply.arm == arm)

    def lines(self, *, sweep: bool) -> list[list[Line]]:
        """The projections alone, for `plots.conversation.conversation`."""
        return [[reply.line(place if sweep else None) for place, reply in enumerate(self.replies)]]

    def __repr__(self) -> str:
        return f"answers of {', '.join(arm.name for arm, _ in self.said)}: show them with side_by_side"


def begin() -> Cell:
    """Make figures work in a saved notebook and in its HTML, and keep libraries quiet. Shows version and
    content note."""
    warnings.filterwarnings("ignore")  # before the imports, some of which warn that there are no widgets
    import plotly.io
    from transformers.utils import logging as transformers_logging

    if str(plotly.io.renderers.default).startswith("plotly_mimetype"):
        # The type alone is drawn by few viewers, and not by nbconvert; the script in the page is drawn by
        # all.
        plotly.io.renderers.default = "plotly_mimetype+notebook"
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformer_lens").setLevel(logging.ERROR)
    version = f"persona_probe {importlib.metadata.version('persona-probe')}"
    return Cell([h.p(".note")[NOTE], soft(version)], f"{version}. {NOTE}")


def open_embedded() -> tuple[Pair, PersonaDirection]:
    """The embedded model, the organism tuned on wrong car advice, both in memory, and the direction that a
    full run selected for them."""
    device = choose_device("auto")
    pair = open_pair(BASE, TUNED, device=device, dtype=choose_dtype("auto", device), keep_both=True)
    model = pair.get("base")
    pair.get("tuned")
    return pair, load_persona_direction(
        shipped_folder(DIRECTION) / "persona_direction.safetensors",
        hook_points=model.resids(),
        d_model=model.d_model,
    )


def reference(name: str) -> Record:
    """A record that ships with the source: `record.json` of the whole experiment, `latents.json` of the
    latents."""
    return read_record(shipped_folder(REFERENCE) / name)


def run(verb: str, *arguments: object) -> Cell:
    """Run a command of persona_probe, its progress shown as it comes, in a process of its own: when it ends
    all its memory is free, a GPU's too.

    Anything but a finished run is an error with the command's own message. Exit code 5, some arms failed, is
    finished.
    """
    words = [sys.executable, "-m", f"persona_probe.{verb}", *map(str, arguments)]
    # A kernel asks for colours, and rich then draws bars.
    plain = os.environ | {"FORCE_COLOR": "", "PYTHONIOENCODING": "utf-8"}
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
    """Every arm's reply to one question; arms of one model share a batch, and all share their random
    draws."""
    said: list[list[Token]] = [[] for _ in arms]
    asked = [(arm, Prompt.user("question", question)) for arm in arms]
    sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    for step in stream(pair, asked, projection, **sampling):
        for token in step:
            said[token.row].append(token)
    return Answers(question, tuple((arm, tuple(tokens)) for arm, tokens in zip(arms, said, strict=True)))


def side_by_side(
    answers: Answers, *, notes: Mapping[str, str] | None = None, show_text: bool = False, redact: bool = False
) -> Cell:
    """One column an arm, tokens coloured by their projection; see `pages.cells.side_by_side`."""
    return cells.side_by_side(
        answers.question, answers.replies, notes=notes, show_text=show_text, redact=redact
    )


def both_replies(question: Question, *, show_text: bool = False, redact: bool = False) -> Cell:
    """A question of a contrast set with its aligned replies beside its misaligned ones, which are blurred."""
    replies: dict[Label, Sequence[str]] = {"aligned": question.aligned, "misaligned": question.misaligned}
    return cells.both_replies(question.text, replies, show_text=show_text, redact=redact)
