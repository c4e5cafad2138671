"""python -m persona_probe.doctor MODEL [ADAPTER]: load a model as the other commands do, and say what holds."""

import sys
from typing import Annotated

import typer

from persona_probe.experiments.options import DateOption, ThinkingOption

MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}


def main(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Hub id[@revision], folder, GGUF file, or smollm2-135m-instruct."
        ),
    ],
    adapter: Annotated[
        str | None, typer.Argument(metavar="ADAPTER", help="LoRA adapter of that model: hub id or folder.")
    ] = None,
    thinking: ThinkingOption = "keep",
    date: DateOption = "2026-01-01",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the findings as one JSON line on stdout.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> None:
    """Load one model and print what holds for it: engine, parity with Hugging Face, tying, template, tokens, sizes.

    Exit code 3 when a number could be wrong, or when the model is refused.
    """
    from persona_probe.base import cli

    cli.main(
        lambda: doctor(
            model,
            adapter,
            thinking=thinking,
            date=date,
            device=device,
            dtype=dtype,
            json_output=json_output,
            quiet=quiet,
        ),
        debug=debug,
        resume_hint=cli.command_line("persona_probe.doctor", sys.argv[1:]),
    )


def doctor(
    model: str,
    adapter: str | None,
    *,
    thinking: str,
    date: str,
    device: str,
    dtype: str,
    json_output: bool,
    quiet: bool,
) -> int:
    """Load, examine, print; the exit code."""
    import json

    from persona_probe.base.cli import Reporter, shown
    from persona_probe.experiments.options import chat_options

    reporter = Reporter(quiet=quiet)
    chat = chat_options(thinking=thinking, date=date)
    reporter.note("persona_probe: loading libraries")
    from persona_probe.base.errors import BAD_INPUT, OK, UsageError
    from persona_probe.base.printing import LEFT, Sheet
    from persona_probe.experiments.checkup import checkup
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_tokenizer
    from persona_probe.prompts.tokenizers import set_options

    where = choose_device(device)
    number = choose_dtype(dtype, where)
    source, base = resolve(model), None
    if adapter is not None:
        source, base = resolve(adapter), source
        if source.kind != "adapter":
            raise UsageError(f"{adapter} is a full model, no adapter: give it alone")
    elif source.kind == "adapter":
        raise UsageError(
            f"{model} is an adapter: give the model that it was trained on first, then the adapter"
        )
    reporter.note(f"loading {source.id} in {str(number).removeprefix('torch.')} on {where}")
    tokenizer = set_options(load_tokenizer(source, base), chat)
    found = checkup(load(source, base=base, device=where, dtype=number, tokenizer=tokenizer), source, base)
    bad = [finding for finding in found if finding.status == "wrong"]
    if json_output:
        line = {
            "type": "doctor",
            "model": source.id,
            "base": base and base.id,
            "right": not bad,
            "findings": [finding.json() for finding in found],
        }
        sys.stdout.write(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n")
        return BAD_INPUT if bad else OK
    sheet = Sheet()
    rows = [(finding.topic, MARKS[finding.status], str(shown(finding.found))) for finding in found]
    sheet.table(f"What holds for {source.id}", (("topic", LEFT), ("", LEFT), ("found", LEFT)), rows)
    n_notes = sum(finding.status == "note" for finding in found)
    sheet.text(
        f"{len(bad)} of {len(found)} findings can make numbers wrong."
        if bad
        else f"Numbers of this model can be trusted; {n_notes} notes above."
        if n_notes
        else "Numbers of this model can be trusted."
    )
    return BAD_INPUT if bad else OK


def entry() -> None:
    """Run the command line."""
    from persona_probe.base.cli import start

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    start(app)


if __name__ == "__main__":
    entry()
