"""One question to several arms, and their replies side by side, each token coloured by its projection on the
direction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from plotly.graph_objects import Figure

from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.streaming import Token, stream
from persona_probe.models.pairs import Pair
from persona_probe.pages.cells import Cell, Reply, side_by_side
from persona_probe.plots.conversation import conversation
from persona_probe.prompts.rows import Prompt


@dataclass(frozen=True, eq=False)
class Answers:
    """What every arm said to one question. The repr says no word of a reply; `text` does.

    `used`: whether the direction was found or selected on this question, which is then said beside it.

    A notebook shows the replies as columns, those of changed models blurred until they are clicked.
    """

    question: str
    arms: tuple[Arm, ...]
    tokens: tuple[tuple[Token, ...], ...] = field(repr=False)
    used: Literal["found", "selected"] | None = None

    @property
    def replies(self) -> tuple[Reply, ...]:
        """One reply an arm, with the projection of each token before the arm's own edit."""
        return tuple(
            Reply(
                arm=arm.name,
                side=arm.side,
                edited=not arm.untouched,
                control=arm.control is not None,
                tokens=tuple((token.text, token.before) for token in tokens),
            )
            for arm, tokens in zip(self.arms, self.tokens, strict=True)
        )

    def text(self, arm: str) -> str:
        """One arm's reply."""
        return next(reply.text for reply in self.replies if reply.arm == arm)

    def show(
        self, *, show_text: bool = False, redact: bool = False, notes: Mapping[str, str] | None = None
    ) -> Cell:
        """The replies as columns. `show_text` blurs nothing, `redact` leaves words out, `notes` stand below
        names."""
        options = {"notes": notes, "show_text": show_text, "redact": redact}
        return side_by_side(self.question, self.replies, used=self.used, **options)

    def curves(self) -> Figure:
        """The projection of every reply, token by token, as a running mean; arms of one model are drawn as a
        sweep."""
        sweep = len({arm.side for arm in self.arms}) == 1
        return conversation([[reply.line(i if sweep else None) for i, reply in enumerate(self.replies)]])

    def _repr_html_(self) -> str:
        return self.show()._repr_html_()

    def __repr__(self) -> str:
        return f"answers of {', '.join(arm.name for arm in self.arms)}"


def four_arms(
    direction: PersonaDirection, *, coefficient: float = 3.0, hook_point: str | None = None
) -> tuple[Arm, ...]:
    """Base, tuned, tuned with the direction ablated, and base with it added `coefficient` times."""
    return (
        Arm("base", "base"),
        Arm("tuned", "tuned"),
        Arm("tuned+ablate", "tuned", direction.ablate(hook_point)),
        Arm("base+steer", "base", direction.steer(coefficient, hook_point)),
    )


def ask(
    pair: Pair,
    question: str,
    direction: PersonaDirection,
    arms: Sequence[Arm] | None = None,
    *,
    max_new_tokens: int = 48,
    temperature: float = 0.7,
    seed: int = 0,
) -> Answers:
    """Every arm's reply to one question; `arms` are by default those of `four_arms(direction)`.

    Arms of one model share a batch, and all share their random draws. Where both models are asked, both stay
    in memory.
    """
    chosen = tuple(four_arms(direction) if arms is None else arms)
    pair.keep_both = pair.keep_both or len({arm.side for arm in chosen}) > 1
    said: list[list[Token]] = [[] for _ in chosen]
    prompt = Prompt.user("question", question)
    for step in stream(
        pair,
        [(arm, prompt) for arm in chosen],
        direction.projection(),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    ):
        for token in step:
            said[token.row].append(token)
    return Answers(question, chosen, tuple(map(tuple, said)), direction.use_of(question))
