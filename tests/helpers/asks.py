"""What a user of the demo asks."""

from typing import Any

from persona_probe.app.session import ARMS, Ask
from persona_probe.interventions.persona_direction import PersonaDirection


def ask_of(direction: PersonaDirection, **changes: Any) -> Ask:
    """A question to all four arms; `changes` replace its settings."""
    settings: dict[str, Any] = {
        "question": "word1 word2",
        "arms": ARMS,
        "coefficient": 1.0,
        "hook_point": direction.hook_point,
        "temperature": 0.7,
        "seed": 0,
        "max_new_tokens": 6,
    }
    return Ask(**settings | changes)
