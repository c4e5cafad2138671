"""persona-probe VERB: every command as a subcommand."""

import typer

from persona_probe import (
    demo,
    diff_latents,
    doctor,
    figures,
    find_direction,
    schema,
    train_organism,
    train_sae,
)
from persona_probe.base.cli import start


def main() -> None:
    """Run a verb."""
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        help="Find, test and remove the direction of a misaligned persona.",
    )
    app.command("find-direction")(find_direction.main)
    app.command("demo")(demo.main)
    app.command("diff-latents")(diff_latents.main)
    app.command("doctor")(doctor.main)
    app.command("figures")(figures.main)
    app.command("schema")(schema.main)
    app.command("train-organism")(train_organism.main)
    app.command("train-sae")(train_sae.main)
    start(app)


if __name__ == "__main__":
    main()
