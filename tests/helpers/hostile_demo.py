"""A demo whose models say nothing but attacks; run as a process of its own, with `tests` on the path:
`python -m helpers.hostile_demo FOLDER`. Prints its address."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.payloads import PAYLOADS
from helpers.planted import open_planted, planted_direction

TEMPLATES = (
    "${window.owned = 1}",
    "{{#each value}}<b>x</b>{{/each}}",
    "`${alert(1)}`",
    "**bold** [x](javascript:alert(1)) ![y](http://evil.example/y.png)",
)
ATTACKS = tuple(attack.encode("utf-8", "replace").decode() for attack in (*PAYLOADS, *TEMPLATES))


def main() -> None:
    """Serve until killed."""
    from persona_probe.app.page import CSS, Look, build
    from persona_probe.app.server import launch, quiet_environment
    from persona_probe.app.session import Answer, Ask, Conversation, Said
    from persona_probe.app.style import SCRIPT

    folder = Path(sys.argv[1])
    sides: dict[str, Any] = {"base": "base", "tuned": "tuned", "tuned+ablate": "tuned", "base+steer": "base"}

    class Hostile:
        direction = planted_direction(open_planted(folder))

        def answers(self, ask: Ask, conversation: Conversation) -> Iterator[tuple[Answer, ...]]:
            tokens = tuple(Said(attack, 0.5, 0.5) for attack in ATTACKS)
            for whole in (False, True):
                yield tuple(
                    Answer(
                        arm=arm,
                        side=sides[arm],
                        edited=arm != sides[arm],
                        coefficient=None,
                        tokens=tokens,
                        source="live",
                        finished=whole,
                    )
                    for arm in ask.arms
                )

        def key(self, ask: Ask, conversation: Conversation) -> str:
            return "k"

    quiet_environment()
    page = build(Hostile(), Look({"base": ATTACKS[2], "tuned": ATTACKS[0]}, folder))
    address, _ = launch(page, css=CSS, script=SCRIPT, port=None, browser=False)
    sys.stderr.write(f"open {address}\n")
    time.sleep(600)


if __name__ == "__main__":
    main()
