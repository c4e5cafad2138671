"""python -m persona_probe.doctor MODEL [ADAPTER]: load a model as the other commands do, and say what
holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from persona_probe.base.command import Call, Command
from persona_probe.base.errors import BAD_INPUT, OK, UsageError
from persona_probe.base.options import Option, documented
from persona_probe.experiments.options import ModelOptions
from persona_probe.storage.shipped import BASE

if TYPE_CHECKING:
    from persona_probe.experiments.checkup import Finding

MARKS = {"ok": "ok", "note": "note", "wrong": "WRONG"}


@documented
@dataclass(frozen=True, kw_only=True)
class Examination(ModelOptions):
    """What `doctor` is asked for."""

    model: Annotated[
        str, Option(f"Hub id[@revision], folder, GGUF file, or {BASE}.", "models", argument=True)
    ]
    adapter: Annotated[
        str | None,
        Option(
            "LoRA adapter of that model: hub id, folder, or the name of one that ships.",
            "models",
            argument=True,
        ),
    ] = None
    json: Annotated[
        bool, Option("Print the findings as one JSON line on stdout.", "output", in_file=False)
    ] = False


def doctor(config: Examination, call: Call) -> int:
    """Load one model and print what holds for it: engine, parity with Hugging Face, tying, template, tokens,
    sizes.

    Exit code 3 when a number could be wrong, or when the model is refused.
    """
    call.reporter.note("persona_probe: loading libraries")
    from persona_probe.base.printing import print_json
    from persona_probe.experiments.checkup import checkup
    from persona_probe.models.devices import choose_device, choose_dtype
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_tokenizer
    from persona_probe.prompts.tokenizers import set_options

    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    source, base = resolve(config.model), None
    if config.adapter is not None:
        source, base = resolve(config.adapter), source
        if source.kind != "adapter":
            raise UsageError(f"{config.adapter} is a full model, no adapter: give it alone")
    elif source.kind == "adapter":
        raise UsageError(
            f"{config.model} is an adapter: give the model that it was trained on first, then the adapter"
        )
    call.reporter.note(f"loading {source.id} in {str(dtype).removeprefix('torch.')} on {device}")
    tokenizer = set_options(load_tokenizer(source, base), config.chat)
    findings = checkup(load(source, base=base, device=device, dtype=dtype, tokenizer=tokenizer), source, base)
    bad = [finding for finding in findings if finding.status == "wrong"]
    if config.json:
        facts = {"model": source.id, "base": base and base.id, "right": not bad}
        print_json("doctor", facts | {"findings": [finding.json() for finding in findings]})
    else:
        show(source.id, findings)
    return BAD_INPUT if bad else OK


def show(name: str, findings: "Sequence[Finding]") -> None:
    """The findings on stdout as a table, and what they come to."""
    from persona_probe.base.cli import shown
    from persona_probe.base.printing import LEFT, Sheet

    sheet = Sheet()
    rows = [(finding.topic, MARKS[finding.status], str(shown(finding.found))) for finding in findings]
    sheet.table(f"What holds for {name}", (("topic", LEFT), ("", LEFT), ("found", LEFT)), rows)
    n_bad, n_notes = (sum(f.status == status for f in findings) for status in ("wrong", "note"))
    if n_bad:
        sheet.text(f"{n_bad} of {len(findings)} findings can make numbers wrong.")
    else:
        sheet.text(f"Numbers of this model can be trusted{f'; {n_notes} notes above' if n_notes else ''}.")


COMMAND = Command(doctor)

if __name__ == "__main__":
    COMMAND.start()
