"""persona-probe VERB: every command as a subcommand."""

import typer

from persona_probe.base.cli import start
from persona_probe.demo import main as demo
from persona_probe.diff_latents import main as diff_latents
from persona_probe.doctor import main as doctor
from persona_probe.figures import main as figures
from persona_probe.find_direction import main as find_direction
from persona_probe.schema import main as schema
from persona_probe.train_organism import main as train_organism
from persona_probe.train_sae import main as train_sae


def main() -> None:
    """Run a verb."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        help="Find, test and remove the direction of a misaligned persona.",
    )
    app.command("find-direction")(find_direction)
    app.command("demo")(demo)
    app.command("diff-latents")(diff_latents)
    app.command("doctor")(doctor)
    app.command("figures")(figures)
    app.command("schema")(schema)
    app.command("train-organism")(train_organism)
    app.command("train-sae")(train_sae)
    start(app)


if __name__ == "__main__":
    main()
