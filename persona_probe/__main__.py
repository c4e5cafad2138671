"""persona-probe COMMAND: every command in one tree."""

import sys

from persona_probe.base.cli import start
from persona_probe.base.command import Command, tree
from persona_probe.calibrate import COMMAND as CALIBRATE
from persona_probe.demo import COMMAND as DEMO
from persona_probe.diff_latents import COMMAND as DIFF_LATENTS
from persona_probe.diversity import COMMAND as DIVERSITY
from persona_probe.doctor import COMMAND as DOCTOR
from persona_probe.figures import COMMAND as FIGURES
from persona_probe.find_direction import COMMAND as FIND_DIRECTION
from persona_probe.report import COMMAND as REPORT
from persona_probe.schema import COMMAND as SCHEMA
from persona_probe.train_organism import COMMAND as TRAIN_ORGANISM
from persona_probe.train_sae import COMMAND as TRAIN_SAE
from persona_probe.wording import COMMAND as WORDING

COMMANDS: tuple[Command, ...] = (
    FIND_DIRECTION,
    DIFF_LATENTS,
    DOCTOR,
    DEMO,
    FIGURES,
    REPORT,
    DIVERSITY,
    WORDING,
    CALIBRATE,
    TRAIN_ORGANISM,
    TRAIN_SAE,
    SCHEMA,
)


def main() -> None:
    """Run a command."""
    start(lambda: sys.exit(tree(COMMANDS)))


if __name__ == "__main__":
    main()
