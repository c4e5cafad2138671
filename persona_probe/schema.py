"""python -m persona_probe.schema [NAME]: the JSON Schema of a file that other programs read."""

import sys
from typing import Annotated

import typer


def main(
    name: Annotated[
        str | None, typer.Argument(help="Which file; without a name, the names are listed.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Print the JSON Schema of a record, of a line of rows.jsonl, or of the facts in a direction file."""
    from persona_probe.base import cli

    def body() -> int:
        import json

        from persona_probe.base.errors import UsageError
        from persona_probe.records.schemas import MODELS, schema

        if name is None:
            width = max(map(len, MODELS)) + 2
            told = {key: (model.__doc__ or "").splitlines()[0] for key, model in MODELS.items()}
            sys.stdout.write("".join(f"{key:{width}}{text}\n" for key, text in told.items()))
            return 0
        asked = name.replace("_", "-")
        if asked not in MODELS:
            raise UsageError(f"no schema {name!r}: allowed are {', '.join(MODELS)}")
        sys.stdout.write(json.dumps(schema(asked), indent=1) + "\n")
        return 0

    cli.main(body, debug=debug, resume_hint="python -m persona_probe.schema")


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
